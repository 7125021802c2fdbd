"""Offline work over files of items: rows in, a token store filled, resumable at any moment.

Knows an encoder by a protocol of its own, so that one in process and a served one do. The command line imports it.
"""
