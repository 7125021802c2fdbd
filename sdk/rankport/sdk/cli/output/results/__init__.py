"""Answers of models, for people and for pipelines."""
