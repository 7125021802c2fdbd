"""The gRPC front: services, health, reflection, and the port's life."""
