"""The page of a proof: facts, measures beside their limits, plots. One file, nothing is fetched."""
