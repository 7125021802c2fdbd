"""The proof of an item encoder: texts that are sampled or the owner's own, encoded by source and bundle."""
