"""Mixtures of experts: which a model has, how they are gated, and how a graph computes them."""
