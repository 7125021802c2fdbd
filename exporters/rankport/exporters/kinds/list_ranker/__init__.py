"""Rankers of lists: one prompt holds all items, read at markers. The table imports `kind`, an export `work`."""
