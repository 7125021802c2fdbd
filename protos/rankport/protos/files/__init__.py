"""Files that users write: what of them is no JSON, and no array."""
