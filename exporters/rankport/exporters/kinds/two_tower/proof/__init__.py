"""The proof of two towers: representations, their score and the whole way, against the own forward of the module."""
