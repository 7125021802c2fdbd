"""Token store in one directory of LMDB: the embedded default."""
