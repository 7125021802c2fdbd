"""Ways of a client to servers: addresses, access, retries and what goes with each call."""
