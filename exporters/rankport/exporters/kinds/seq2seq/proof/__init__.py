"""The proof of an encoder-decoder that writes: logits token by token, and texts, by source and bundle."""
