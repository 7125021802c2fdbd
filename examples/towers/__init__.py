"""Two towers trained on Cranfield's judgments over MiniLM's body and wide features, exported, stored and ranked."""
