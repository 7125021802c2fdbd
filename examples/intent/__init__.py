"""Intents of requests by classifiers on MiniLM's body: snips (7) and banking77 (77), trained, exported, compared."""
