"""Writing with VLP held against recorded values: greedy choice, beams, self-critical learning; see `verify.py`."""

CHECKS = ()
