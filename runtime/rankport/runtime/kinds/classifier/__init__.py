"""Classifiers: a text, or two read together in one sequence -> probabilities of labels."""
