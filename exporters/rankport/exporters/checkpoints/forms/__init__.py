"""The forms in which checkpoints arrive, a loader each; `table` lists them."""
