"""Proof of a classifier: what the checkpoint answers to texts as its own tokenizer makes them."""
