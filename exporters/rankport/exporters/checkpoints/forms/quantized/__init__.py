"""Checkpoints of low-bit weights: one module for each method that writes them."""
