"""Layouts of models as they were published, with code of their own, before transformers had their class.

What the code calls fields and tensors, as tables. No tensor is read here, and none of the code is ever run.
"""
