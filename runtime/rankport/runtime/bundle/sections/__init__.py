"""Sections of the manifest: a schema each, with the rules that a section keeps by itself. None reads a file."""
