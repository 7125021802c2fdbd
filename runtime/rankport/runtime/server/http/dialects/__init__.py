"""Dialects: what clients of other servers send and read, a file each. They know no other dialect."""
