"""Parts of the kinds whose graphs take texts by themselves: tracing, attention on a GPU, limits, samples of a proof.

Kinds import it; it knows none of them.
"""
