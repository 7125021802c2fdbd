"""Rows of items out of files of any format, bad ones among them, and the order of several files.

Knows no encoder and no store: what becomes of a row is the jobs'.
"""
