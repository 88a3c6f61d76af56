"""The original project: its files, its weights, and its quirks (`quirks.md`)."""
