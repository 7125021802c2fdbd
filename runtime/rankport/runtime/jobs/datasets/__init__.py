"""Encode jobs whose tokens go to a dataset: windows of rows to parts, here or on the actors of a Ray cluster."""
