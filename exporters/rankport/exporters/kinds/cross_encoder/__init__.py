"""Cross-encoders: a classification head over two texts read together. The table imports `kind`, an export `work`."""
