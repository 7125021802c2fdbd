"""Loaded models behind a port. Knows capabilities, never a kind; `loading` alone asks the table of kinds."""
