"""Two towers: graphs of representations and of their score. The table imports `kind`, an export `work`."""
