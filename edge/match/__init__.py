"""From an embedding to a decision: watchlist, index, decide."""
