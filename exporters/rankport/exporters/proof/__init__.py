"""The proof of a bundle against its source, whatever its kind: comparison, limits, metrics, emulation.

Knows no kind: what is measured is handed in. Kinds and the steps import it.
"""
