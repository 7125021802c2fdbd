"""Item encoders: hidden states pooled to embedding tokens."""
