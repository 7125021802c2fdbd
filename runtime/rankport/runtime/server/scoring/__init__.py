"""Way of a score query to a model: depth under pressure, missing items, known scores. Knows no front, no protocol."""
