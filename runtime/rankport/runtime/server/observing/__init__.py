"""Views of a server from outside: calls as they end, logs, traces, metrics, readiness. Knows no front and no model."""
