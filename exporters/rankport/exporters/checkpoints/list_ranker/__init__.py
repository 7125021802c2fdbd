"""Reference module of list rankers: a decoder body, a projector, and the prompt that holds a list."""
