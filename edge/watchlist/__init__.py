"""The life of a list: what it is, how it comes onto the van, how it is kept, and how it ends."""
