"""Rankers: items scored against a shared prefix, as text, as token ids or as embedding tokens."""
