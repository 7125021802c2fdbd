"""Two-tower models in torch: the reference module, its config and its losses. Knows no export and no folder's form."""
