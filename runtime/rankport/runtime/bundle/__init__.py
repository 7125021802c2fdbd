"""Bundles on disk: their format, read strictly, and their description.

Knows no kind's rules, no device and no request. Every package of the runtime may import it.
"""
