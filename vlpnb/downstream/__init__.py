"""What is asked of a finished model: GLUE, SQuAD, SWAG, probes, and the comparison of several models."""
