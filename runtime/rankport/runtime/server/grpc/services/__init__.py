"""gRPC services, one a module: messages to calls of models, and results to messages. None imports another."""
