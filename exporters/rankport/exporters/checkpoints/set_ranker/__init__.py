"""Checkpoints of rankers of sets: their config, and the reference module in torch."""
