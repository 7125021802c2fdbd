"""`JobRoots`: what jobs may read and write: folders, and prefixes of URLs.

Links count as what they lead to. A URL is below a prefix by its parts, each as it is written: one whose parts would be
others once somebody decodes them (`..`, `%2e`, `%2f`, `\\`) is refused, and so is one that names a second place (`::`).
"""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.runtime.options import check_folder
from rankport.runtime.store.redis_store.location import without_password

_LOCAL_SCHEMES = frozenset({"file", "local"})
_NOT_IN_URLS = ("::", "?", "#", "\\")


@dataclass(frozen=True, slots=True)
class JobRoots:
    """Roots that were checked. Raises `InvalidRequest` for a prefix of URLs that is none, or what is no folder."""

    roots: Sequence[str]

    def __post_init__(self) -> None:
        for root in self.roots:
            if not is_url(root):
                check_folder("job root", root)
                continue
            if ":" in root.partition("://")[2].partition("/")[0].rpartition("@")[0]:
                raise InvalidRequest(  # roots are told to whoever names a place outside of them
                    f"job root {without_password(root)!r} has a password: leave it out, and give the server its "
                    "credentials by its environment"
                )
            if root.partition("://")[0].lower() in _LOCAL_SCHEMES:
                raise InvalidRequest(f"job root {root!r}: give the folder itself")
            if not _parts("job root", root)[1:] or glob.has_magic(root):
                raise InvalidRequest(f"job root {root!r}: give SCHEME://HOST or SCHEME://BUCKET/PATH/")

    def store(self, path: str) -> Path:
        """Finds the folder of a store, which need not be there. Raises `InvalidRequest`, as all here."""
        self._check_text("store", path)
        found = list(self._below(path))
        if is_url(path) or not found:
            raise self._outside("store", path)
        return next((each for each in found if os.path.exists(each)), found[0])

    def items(self, source: str) -> str:
        """Finds what a file, a folder, a pattern or a URL of items means. Raises `NotFound` where no such file is."""
        self._check_text("items", source)
        if is_url(source):
            self.check_items(source)
            return source
        found = next((each for each in self._below(source) if os.path.exists(each)), None)
        if found is not None:
            _check_regular(source, found)
            return str(found)
        if glob.has_magic(source):
            return self._pattern(source)
        if any(self._below(source)):
            raise NotFound(f"no items file {source!r:.200} below {', '.join(self.roots)}")
        raise self._outside("items", source)

    def check_items(self, name: str) -> None:
        """Makes sure that a single file, or a URL, is below a root."""
        if not is_url(name):
            found = next(self._below(name), None)
            if found is None:
                raise self._outside("items", name)
            _check_regular(name, found)
            return
        parts = _parts("items", name)
        prefixes = (_parts("job root", root) for root in self.roots if is_url(root))
        if not any(parts[: len(prefix)] == prefix for prefix in prefixes):
            raise self._outside("items", name)

    def _pattern(self, pattern: str) -> str:
        """Finds the first root below which a pattern finds something."""
        parts = Path(pattern).parts
        if ".." in parts:
            raise InvalidRequest(f"items {pattern!r} has '..': give a pattern below a job root")
        literal = list(takewhile(lambda part: not glob.has_magic(part), parts))
        for root in self._folders():
            base = Path(os.path.realpath(root.joinpath(*literal)))
            found = str(Path(glob.escape(str(base)), *parts[len(literal) :]))
            if base.is_relative_to(root) and any(glob.iglob(found, recursive=True)):
                return found
        raise self._outside("items", pattern)

    def _below(self, path: str) -> Iterator[Path]:
        """Resolves a path at each folder, and yields what stays below it."""
        for root in self._folders():
            found = Path(os.path.realpath(root / path))  # absolute stays what it is
            if found.is_relative_to(root):
                yield found

    def _folders(self) -> Iterator[Path]:
        return (Path(os.path.realpath(root)) for root in self.roots if not is_url(root))

    def _check_text(self, field: str, path: str) -> None:
        if not path or "\0" in path:
            raise InvalidRequest(
                f"{field} is {path!r}: give a path below {', '.join(self.roots) or 'a job root'}"
            )

    def _outside(self, field: str, path: str) -> InvalidRequest:
        return InvalidRequest(
            f"{field} {path!r} is not below the server's job roots: "
            f"{', '.join(self.roots) or 'it has none'} (--job-root DIRECTORY|URL)"
        )


def _check_regular(name: str, path: Path) -> None:
    """Raises `InvalidRequest` for a pipe or a device: a thread that opens one may wait for ever, and no server end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InvalidRequest(f"items {name!r} is a pipe or a device: give a file, or a folder")


def is_url(location: str) -> bool:
    """Says whether a location is for fsspec: a URL, or several that are chained."""
    return "://" in location or "::" in location


def _parts(field: str, url: str) -> list[str]:
    """Splits a URL at its slashes, the scheme first. Raises `InvalidRequest` for one that could mean another place."""
    scheme, _, rest = url.partition("://")
    parts = rest.strip("/").split("/")
    decoded, before = rest, ""
    while decoded != before:
        decoded, before = unquote(decoded), decoded
    unsafe = next((sign for sign in _NOT_IN_URLS if sign in url or sign in decoded), None)
    if unsafe is not None:
        raise InvalidRequest(f"{field} {url!r} has {unsafe!r}: give the URL of a place below a job root")
    if {".", ".."} & set(decoded.split("/")) or decoded.count("/") != rest.count("/") or "\0" in decoded:
        raise InvalidRequest(f"{field} {url!r} has dots or slashes that lead elsewhere: write its path out")
    return [scheme.lower(), *parts] if parts != [""] else [scheme.lower()]
