"""What is done away from the van: keys, lists, authorities, images, and the scene that the demo shows."""
