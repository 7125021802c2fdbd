"""NVIDIA GPUs: what there are, calls of CUDA, memory and recordings. No pass knows it: those that load backends do."""
