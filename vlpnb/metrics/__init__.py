"""Thin, tested fronts to accepted implementations of the field's metrics."""
