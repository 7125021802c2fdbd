"""Proof of a cross-encoder: what the checkpoint's own class answers to pairs as its own tokenizer makes them."""
