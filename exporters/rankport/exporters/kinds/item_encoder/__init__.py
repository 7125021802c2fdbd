"""Item encoders: hidden states pooled to embedding tokens. The table imports `kind`, an export `work`."""
