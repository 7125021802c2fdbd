"""Ways of a model to the engine that writes for it, in this process or another, and the orders that it is given."""
