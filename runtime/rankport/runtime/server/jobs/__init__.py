"""Offline jobs of a server: kept in a file, run one at a time with an encoder that it serves."""
