"""Parts that belong to one process, and say so after a fork."""
