"""Clients that nobody here wrote, run against the HTTP front in an environment of their own."""
