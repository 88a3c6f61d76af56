"""Transformer building blocks shared by the systems: attention, layers, masks, heads, losses, checkpoints."""
