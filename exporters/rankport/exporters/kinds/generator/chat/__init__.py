"""Chats of a generator: a folder's chat template, and the turns that its texts are made of."""
