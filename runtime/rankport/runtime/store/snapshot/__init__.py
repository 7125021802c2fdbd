"""Tokens as one file that is mapped and only read: for catalogues that are served as they are (docs/stores.md)."""
