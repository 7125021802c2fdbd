"""Server of several processes: fronts, which speak the protocols and tokenize, and engines, one a device."""
