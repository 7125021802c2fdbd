"""KServe's inference protocol v2, for both fronts: tensors by name become requests of models, and answers tensors."""
