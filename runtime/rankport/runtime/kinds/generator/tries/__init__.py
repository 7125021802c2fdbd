"""Tries of the sequences that there are, and their files."""
