"""Tokenizers, corpora, masking and packing of text."""
