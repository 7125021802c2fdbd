"""The word of a sentence-transformers folder, read whole: each setting is honoured or refused by name.

Made for the loader of checkpoints and for kinds. Nothing here runs a model or imports the library of that name.
"""
