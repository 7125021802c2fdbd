"""TensorRT and TensorRT-RTX: plans built, kept and run. The only package that imports tensorrt."""
