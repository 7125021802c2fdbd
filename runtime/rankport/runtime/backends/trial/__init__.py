"""Trials of a device: a small ranker that ships with the package, and answers compared with those of a CPU.

Nothing here knows who asks: `doctor --self-test` does, and a load of a plan on a GPU that TensorRT does not list.
"""
