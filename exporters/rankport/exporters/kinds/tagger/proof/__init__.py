"""The proof of a tagger: its logits, its reading of texts and its spans against the checkpoint's own class."""
