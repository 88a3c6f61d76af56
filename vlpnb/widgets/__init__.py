"""Interactive views with static fallbacks."""
