"""Layers that read more than attention does, as they compute padded texts."""
