"""Taggers: labels of tokens to spans. The table imports `kind`, an export `work`."""
