"""Instances of an engine: threads in which passes run beside each other, and the passes that are under way."""
