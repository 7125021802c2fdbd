"""Output of a membership audit: summary, JSON, and a page with plots."""
