"""Image backbones, transforms and region features."""
