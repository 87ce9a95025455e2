"""From a camera to an embedding: capture, detect, track, quality, align, embed."""
