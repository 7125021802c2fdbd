"""Token store in Redis."""
