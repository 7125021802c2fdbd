"""Commands that fill, follow and tend stores of embedding tokens."""
