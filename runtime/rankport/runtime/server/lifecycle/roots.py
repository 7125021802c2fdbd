"""Folders below which a running server may load bundles."""

import os
from collections.abc import Sequence
from pathlib import Path

from rankport.protos.errors import InvalidRequest


def below_a_root(path: str, roots: Sequence[str]) -> Path:
    """Finds what a bundle's path means: absolute, or below the first root that has it.

    Links count as what they lead to. Raises `InvalidRequest` for what is not there, or lies outside of every root.
    """
    if not roots:
        raise no_roots(path)
    if not path or "\0" in path:
        raise InvalidRequest(f"path is {path!r}: give a bundle's directory")
    for found in _below(path, roots):
        if os.path.exists(found):  # Path.exists raises for a name that is too long
            return found
    raise InvalidRequest(f"path {path!r} is no directory below {', '.join(roots)}: put the bundle there")


def no_roots(path: str) -> InvalidRequest:
    """Makes the error of a load at a server that has no roots."""
    return InvalidRequest(
        f"path {path!r}: this server loads no bundles while it runs; start it with --model-root DIRECTORY"
    )


def _below(path: str, roots: Sequence[str]) -> list[Path]:
    """Resolves a path at each root, and keeps what stays below it."""
    resolved = [(_real(os.path.join(root, path)), _real(root)) for root in roots]
    return [found for found, root in resolved if found.is_relative_to(root)]  # absolute stays what it is


def _real(path: str) -> Path:
    """Follows all links; those that lead round in a circle stay, and are refused when they are opened."""
    return Path(os.path.realpath(path))
