"""Fit of a candidate to a job, low, medium or high: a classifier of pairs on MiniLM's body."""
