"""Part 1: Vokenization (Tan & Bansal, EMNLP 2020): matching tokens with images, vokens, visually supervised language models."""
