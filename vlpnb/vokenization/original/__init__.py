"""The original project: its files, its weights, its table of results, and its quirks (`quirks.md`)."""
