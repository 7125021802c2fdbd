"""Turns what goes wrong while a command writes into one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from rankport.protos.errors import InvalidRequest, RankportError


@contextmanager
def writing(target: str) -> Iterator[None]:
    """Around writing to `target`, an option with its file, say. Raises `InvalidRequest` for an `OSError`."""
    try:
        yield
    except (RankportError, BrokenPipeError):  # the command line ends quietly when its reader went away
        raise
    except OSError as error:
        raise InvalidRequest(f"{target} cannot be written: {error.strerror or error}") from error
