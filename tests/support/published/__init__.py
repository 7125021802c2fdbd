"""Tiny random checkpoints in the layouts in which models were published, and their maths, written by hand.

The maths are those of the published code, in the words of its tensors, and use no class of transformers.
"""
