"""Files behind URLs (`s3://…`, `https://…`), as fsspec reaches them: what a URL stands for, and copies of files.

Owns what is told where one cannot be reached: libraries of schemes raise errors of classes of their own.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from glob import has_magic
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rankport.protos.errors import InvalidRequest, NotFound, RankportError
from rankport.protos.installed.extras import extras_named
from rankport.runtime.jobs.config import FileFormat
from rankport.runtime.jobs.files.folders import (
    check_readable,
    files_below,
    format_of,
    item_files,
    lies_beside,
    why_none,
)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(name: str) -> bool:
    """Says whether a name is a URL, and no path."""
    return _URL.match(name) is not None


def files_behind(url: str, file_format: FileFormat | None) -> list[str]:
    """Finds the files that a URL stands for, by name: itself, those of a folder, or of a pattern; of a given format.

    Raises NotFound where there are none, InvalidRequest where it cannot be reached, MissingExtra without fsspec.
    """
    with _reached(url):
        import fsspec

        files, path = fsspec.core.url_to_fs(url)
        files.invalidate_cache()  # a process that runs on keeps what was listed before
        scheme = url.partition("://")[0]
        if has_magic(path) and not files.exists(path):
            if _is_here(files):
                check_readable(path)
            matched = sorted(files.glob(path, detail=True).items())
            found = [
                file
                for name, about in matched
                if not lies_beside(path, name)
                for file in (
                    _files_in(files, scheme, name, file_format) if about["type"] == "directory" else [name]
                )
            ]
        elif files.isdir(path):
            found = _files_in(files, scheme, path, file_format)
        else:
            return [url]
    if not found:
        raise NotFound(f"no items at {url}: {why_none(path)}")
    names = list(dict.fromkeys(_with_scheme(scheme, name) for name in found))
    lance = next((name for name in names if format_of(name) == "lance"), None)
    if lance is not None:
        raise InvalidRequest(f"{lance}: datasets of Lance are read from folders that are here: copy it first")
    return names


def _files_in(files: Any, scheme: str, folder: str, file_format: FileFormat | None) -> list[str]:
    below = _with_scheme(scheme, folder.rstrip("/") + "/")
    if _is_here(files):  # find passes over folders that cannot be read
        names = files_below(folder)
    else:
        names = (_with_scheme(scheme, name).removeprefix(below) for name in files.find(folder))
    return [name if "://" in name else below + name for name in item_files(below, names, file_format)]


def _is_here(files: Any) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(files, LocalFileSystem)


def _with_scheme(scheme: str, name: str) -> str:
    """Writes a name that a file system gives as a URL."""
    return name if "://" in name else f"{scheme}://{name}"


class Copies:
    """Copies of files behind URLs, in folders that are deleted with them. `close` deletes those that are kept."""

    def __init__(self) -> None:
        self._kept: dict[str, tempfile.TemporaryDirectory[str]] = {}  # by URL

    @contextmanager
    def of(self, url: str, *, keep: bool = False) -> Iterator[Path]:
        """Has a file here as long as it is open; one to `keep` until it was opened once more, without a second copy.

        Errors that name the copy name the URL instead, and keep nothing.
        """
        with ExitStack() as deleted:
            kept = self._kept.pop(url, None)
            folder = kept or tempfile.TemporaryDirectory(prefix="rankport-items-")
            copy = Path(deleted.enter_context(folder)) / _file_name(url)
            if kept is None:
                _fetch(url, copy)
            try:
                yield copy
            except RankportError as error:
                raise type(error)(str(error).replace(str(copy), url)) from error.__cause__
            if keep:
                deleted.pop_all()
                self._kept[url] = folder

    def close(self) -> None:
        """Deletes what is kept. Closing twice does nothing."""
        while self._kept:
            self._kept.popitem()[1].cleanup()


def _fetch(url: str, copy: Path) -> None:
    with _reached(url):
        import fsspec

        files, path = fsspec.core.url_to_fs(url)
        files.get_file(path, str(copy))


def _file_name(url: str) -> str:
    """Names a copy so that its format is told: by the last name of the path, without a signature behind it."""
    path = urlsplit(url).path if url.startswith(("http://", "https://")) else url
    return path.rsplit("/", 1)[-1] or "items"


@contextmanager
def _reached(url: str) -> Iterator[None]:
    """Tells what keeps a URL from being read."""
    with extras_named(f"reading {url}", "remote"):
        import fsspec  # noqa: F401
    try:
        yield
    except RankportError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"no items file {url}") from error
    except (ImportError, ValueError) as error:
        raise InvalidRequest(f"{url}: {error}") from error
    except OSError as error:
        raise InvalidRequest(f"{url} cannot be read: {error}") from error
    except Exception as error:
        failure = OSError(f"{type(error).__name__}: {' '.join(str(error).split())}")
        raise InvalidRequest(f"{url} cannot be read: {failure}") from failure
