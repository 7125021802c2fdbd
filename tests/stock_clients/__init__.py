"""Clients that nobody here wrote, run against the fronts of HTTP and gRPC in an environment of their own."""
