"""Membership audit of embeddings by user: could an attacker tell whose texts an encoder was trained on?

Knows no command; `cli` shows what it measures. Imports no torch.
"""
