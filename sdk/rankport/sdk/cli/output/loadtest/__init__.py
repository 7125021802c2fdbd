"""Output of a load test: progress, summary, JSON, and a page with plots."""
