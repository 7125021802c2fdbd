"""The proof of rankers of sets: every way of asking against one pass of the source in torch."""
