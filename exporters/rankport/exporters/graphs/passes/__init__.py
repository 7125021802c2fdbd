"""Rewrites of ONNX graphs, a pass a file."""
