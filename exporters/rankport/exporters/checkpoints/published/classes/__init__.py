"""Classes of rankport's own, for models whose maths transformers has under no name: a config and a model each."""
