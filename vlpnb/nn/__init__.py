"""Transformer building blocks shared by the five systems: attention, layers, masks, heads, losses, checkpoints."""
