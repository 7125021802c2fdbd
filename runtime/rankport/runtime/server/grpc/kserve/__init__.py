"""KServe's inference protocol v2 over gRPC."""
