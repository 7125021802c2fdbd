"""A bundle on disk: its format, read strictly, and its description.

Knows no kind's rules, no device and no request. Every package of the runtime may import it.
"""
