"""Texts as they are written: the next token, what of it is certain, where it ends; knows no engine."""
