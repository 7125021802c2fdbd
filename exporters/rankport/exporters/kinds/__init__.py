"""The kinds of models as an export makes them: graphs, manifest fields, and the modes that prove them."""
