"""The field's metrics: tested fronts to accepted implementations, and what must run without Java."""
