"""Measured accuracy: open-set identification and speed."""
