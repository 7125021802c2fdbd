"""Enlarged vocabularies: audited, extended and grounded. Exports nothing."""
