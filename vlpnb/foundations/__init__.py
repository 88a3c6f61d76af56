"""Stages from which every part starts: the world, the datasets, small networks, frozen features, tokenised text."""
