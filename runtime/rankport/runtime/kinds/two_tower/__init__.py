"""Two towers: texts to representations, and scores of representations that are given."""
