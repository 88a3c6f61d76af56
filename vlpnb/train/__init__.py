"""The training loop, optimiser, checkpoints and distributed launch."""
