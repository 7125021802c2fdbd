"""Inputs of passes on their way to a device, and results on their way back. Knows no pass."""
