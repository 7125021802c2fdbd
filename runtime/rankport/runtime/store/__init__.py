"""Embedding tokens by item key: where they are kept, how they are read, which of them stay on a device.

Knows LMDB and the contract of a backend's table; no queue, no server. Kinds and jobs import it.
"""
