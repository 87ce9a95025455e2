"""What runs on the van and, in :mod:`edge.controlroom`, what reads its alerts."""

__version__ = "0.1.0"
