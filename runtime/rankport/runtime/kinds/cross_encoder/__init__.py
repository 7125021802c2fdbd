"""Cross-encoders: prefix and item read together in one sequence -> scores."""
