"""Files as they lie here or behind URLs: which hold items, what they are compressed by and encoded in.

Knows no row: what a file holds is `rows`'s.
"""
