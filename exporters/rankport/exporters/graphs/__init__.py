"""The way from a torch module to ONNX graphs on disk: traced, cut, rewritten, written over one weights file.

Knows no kind of model. Kinds and the export import it.
"""
