"""The kinds of models: what each answers, and how a bundle of it is loaded.

The server, the SDK and the exporters import this table; a kind imports everything below it and no other kind.
"""
