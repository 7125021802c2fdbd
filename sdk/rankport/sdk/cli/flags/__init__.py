"""Flags of commands: made of the dataclasses that hold them, or read into what a request takes."""
