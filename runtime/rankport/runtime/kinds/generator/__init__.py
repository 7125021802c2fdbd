"""Generators: what writes text behind a prompt, a token at a time. Only the table of kinds imports it."""
