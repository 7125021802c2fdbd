"""Decoders whose prefix is shared: their attention, the function that is traced, and its graphs.

Knows no kind; kinds of models that are decoders import it.
"""
