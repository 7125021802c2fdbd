"""A checkpoint folder -> a model in torch, in whatever form it arrives. Knows no graph and no bundle."""
