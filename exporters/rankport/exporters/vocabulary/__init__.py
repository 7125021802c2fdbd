"""Enlarged vocabularies: audited, extended and grounded. Exports nothing; the command line imports it."""
