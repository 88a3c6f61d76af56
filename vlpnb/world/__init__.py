"""The visual world: generated scenes, pictures, language, questions and corpora with ground truth."""
