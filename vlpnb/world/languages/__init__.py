"""The grammar of the visual world in five languages, one file per language."""
