"""Generators: causal language models that write text behind a prompt. Only the table of kinds imports it."""
