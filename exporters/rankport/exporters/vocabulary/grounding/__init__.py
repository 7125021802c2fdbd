"""Grounding: new rows trained on pairs of text and tokens, and written into a longer checkpoint."""
