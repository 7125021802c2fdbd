"""Late interaction (ColBERT): a vector for each token of a text, and MaxSim of a query's vectors and an item's."""
