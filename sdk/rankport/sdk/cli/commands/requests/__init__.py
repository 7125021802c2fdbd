"""Commands that ask a model, of a bundle or of a server."""
