"""Part 1: Vokenization (Tan & Bansal, EMNLP 2020): vokens, and the language models they supervise."""
