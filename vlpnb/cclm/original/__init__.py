"""Files, names and quirks of the original code of CCLM."""
