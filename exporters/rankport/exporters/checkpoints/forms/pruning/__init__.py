"""Widths that the tensors of a checkpoint have and its config does not say: read off them, and put into the model."""
