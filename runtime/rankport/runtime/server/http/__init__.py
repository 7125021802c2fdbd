"""Front for HTTP: dialects of stock clients and our own API as JSON, health, the status page, and the port's life."""
