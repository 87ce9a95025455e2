"""What may be believed: keys, signatures, authorities."""
