"""NVIDIA's Llama that reads both ways: llama-nemotron-embed and llama-nemotron-rerank, as they were published.

transformers lacks the classes; those here have their names and compute the same.
"""
