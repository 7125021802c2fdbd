"""Load tests: requests that arrive whether or not the server answers, and how long each took from its due time.

Knows no command; `cli` shows what it measures.
"""
