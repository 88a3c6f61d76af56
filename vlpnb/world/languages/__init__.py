"""The five languages of captions: one file each, with its words and its agreement."""
