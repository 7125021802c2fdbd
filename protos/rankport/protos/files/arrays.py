"""Errors of reading an array that numpy saved, .npy or .npz, from a file that is none, cut or damaged, in words too."""

import struct
import zlib
from tokenize import TokenError
from zipfile import BadZipFile

from rankport.protos.reasons import reason_of

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


def array_reason(error: Exception) -> str:
    """Tells why no array could be read; numpy's advice to unpickle the file is not passed on."""
    if "allow_pickle" in str(error):
        return "it is no array that numpy saved, or one of Python objects, which are never loaded"
    return reason_of(error)
