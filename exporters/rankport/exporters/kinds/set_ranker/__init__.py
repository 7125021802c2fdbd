"""Rankers of sets: graphs of histories and of candidates. The table imports `kind`, an export `work`."""
