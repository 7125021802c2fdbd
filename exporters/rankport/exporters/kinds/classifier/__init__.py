"""Classifiers: labels of a text, or of two read together. The table imports `kind`, an export `work`."""
