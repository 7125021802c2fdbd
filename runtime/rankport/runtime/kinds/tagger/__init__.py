"""Taggers: texts or words -> spans with labels, and tags of words."""
