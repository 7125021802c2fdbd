"""Pairs of texts as one: how they are framed, what answers to them, and those that a proof samples."""
