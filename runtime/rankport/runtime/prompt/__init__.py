"""Texts and token ids of a request -> runs of tokens, by the bundle's prompt.

Knows the bundle, not the store, the queue or the device. Kinds and exporters import it.
"""
