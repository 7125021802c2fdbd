"""Encoder-decoders that write: a text is read once, and answers to it are written by beams or one by one."""
