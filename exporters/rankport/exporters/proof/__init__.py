"""The proof of a bundle against its source, whatever its kind: comparison, limits, metrics, emulation."""
