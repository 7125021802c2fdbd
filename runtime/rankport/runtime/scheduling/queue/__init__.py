"""Requests that wait for a pass: how many may, and whose turn it is. Knows no pass and no thread."""
