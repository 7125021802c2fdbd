"""Tables of what a bundle is and how it measured."""
