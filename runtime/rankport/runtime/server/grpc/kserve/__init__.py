"""KServe's inference protocol v2: tensors by name, for clients that were not written for this server."""
