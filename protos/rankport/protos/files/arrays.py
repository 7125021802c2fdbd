"""Errors of reading an array that numpy saved, .npy or .npz, from a file that is none, cut or damaged."""

import struct
import zlib
from tokenize import TokenError
from zipfile import BadZipFile

# A header of .npy is read as Python's words, a member of .npz as zipfile does: each fails in ways of its own.
UNREADABLE: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    TypeError,
    EOFError,
    SyntaxError,
    TokenError,
    BadZipFile,
    NotImplementedError,  # compressed or encrypted in a way that there is none of
    RuntimeError,
    MemoryError,  # a shape that no memory holds
    struct.error,
    zlib.error,
)
