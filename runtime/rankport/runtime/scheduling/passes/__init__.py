"""Passes: what each is made of, of which requests, and whose its results are. Knows no queue."""
