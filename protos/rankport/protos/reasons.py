"""Reasons of what the operating system or numpy refused, in words: no number of an error, no path told already."""

import re

_NUMBER = re.compile(r"^\[Errno -?\d+\] | \(os error \d+\)")


def reason_of(error: BaseException) -> str:
    """Tells why a file could not be read or written, behind words that name the file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return _NUMBER.sub("", str(error)) or type(error).__name__


def reason_with_file(error: BaseException) -> str:
    """Tells the file too, where the operating system named one."""
    file = error.filename if isinstance(error, OSError) else None
    return reason_of(error) if file is None else f"{file}: {reason_of(error)}"


def array_reason(error: Exception) -> str:
    """Tells why no array could be read; numpy's advice to unpickle the file is not passed on."""
    if "allow_pickle" in str(error):
        return "it is no array that numpy saved, or one of Python objects, which are never loaded"
    return reason_of(error)
