"""Checkpoints of reference modules of our own: towers, rankers of sets and of lists."""
