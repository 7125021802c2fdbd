"""Rankers of lists: all items of a block and the prefix in one prompt, read at markers -> scores."""
