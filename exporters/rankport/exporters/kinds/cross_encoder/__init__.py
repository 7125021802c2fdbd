"""Cross-encoders: a classification head over prefix and item read together. The table imports `kind`, exports `work`."""
