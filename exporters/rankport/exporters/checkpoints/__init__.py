"""A checkpoint folder -> a model in torch, in whatever form it arrives. Knows no graph and no bundle.

Vocabularies, proofs, kinds and the steps import it.
"""
