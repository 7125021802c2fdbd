"""Fit of a candidate to a job, and why: a classifier and an explainer behind one server."""
