"""Encoder-decoders that write: a text read once, another written behind it. Only the table of kinds imports it."""
