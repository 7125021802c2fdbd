"""ONNX Runtime: on the CPU, and on CUDA. The only package that imports onnxruntime."""
