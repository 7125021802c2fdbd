"""The proof of a generator: logits token by token, and texts, by source and bundle."""
