"""Front for gRPC: services, health, reflection, and the port's life."""
