"""Prompts that hold a whole list of items: their template, and the values that a request puts into it."""
