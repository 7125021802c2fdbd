"""Rankers of sets: a history once, all candidates of a request together. Knows no other kind."""
