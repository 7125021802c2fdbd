"""Tokens kept fresh: changes of items, as they come in a stream of Redis, written to a token store."""
