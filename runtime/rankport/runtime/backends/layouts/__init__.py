"""Ragged batches as the arrays that graphs take, and the sizes these are padded to. Numpy only; backends import it."""
