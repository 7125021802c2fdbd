"""The proof of list rankers: every form of a list against one prompt of the source in torch."""
