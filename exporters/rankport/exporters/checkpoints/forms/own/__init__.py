"""Checkpoints of reference modules of our own: towers, and rankers of sets."""
