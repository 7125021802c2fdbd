"""Patterns of nodes -> ONNX Runtime's fused operators on CUDA."""
