"""Completion of job titles: candidates of what was typed, ranked by how likely a small language model writes each."""
