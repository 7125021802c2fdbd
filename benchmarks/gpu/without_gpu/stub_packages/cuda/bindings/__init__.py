"""Stand-in for cuda-python's bindings, over the stub of CUDA: as much of them as rankport calls."""
