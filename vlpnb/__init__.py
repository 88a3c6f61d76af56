"""vlpnb: a notebook course that teaches and reproduces five vision-language pre-training systems."""

__version__ = "0.1.0"
