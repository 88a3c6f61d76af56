"""The five languages in which captions of a scene are said: one file each, with its words and its agreement."""
