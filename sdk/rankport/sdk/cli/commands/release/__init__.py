"""Commands that make a checkpoint a bundle, and tell what bundle and machine are."""
