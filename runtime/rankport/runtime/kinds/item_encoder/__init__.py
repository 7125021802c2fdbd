"""Item encoders: texts -> embedding tokens."""
