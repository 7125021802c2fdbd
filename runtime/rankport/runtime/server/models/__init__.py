"""Models that a server has: their versions, the aliases of these, and which one a request means. Loads none."""
