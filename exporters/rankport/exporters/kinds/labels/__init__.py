"""Labels and scores of the kinds that answer by logits: names of a head, the positive one, what a score is.

Kinds import it; it knows none of them.
"""
