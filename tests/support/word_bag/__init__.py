"""A kind of models in no table of the product: a text as the mean of its tokens' input embeddings, of unit length.

`docs/architecture.md` shows it. `runtime` and `row` are what the two tables would list, `work` does an export.
"""
