"""What a server shows of itself: calls as they end, logs, traces, metrics, readiness. Knows no front and no model."""
