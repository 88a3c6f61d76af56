"""Nearest neighbours: exact search in torch and faiss indexes."""
