"""Writing of commands: whole files or none, JSON for pipelines, and what goes wrong as one line."""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rankport.protos.errors import RankportError
from rankport.protos.reasons import reason_of

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but a tab, and the end of a line
# Of a file that may be written where it is, and not be moved to: its folder is read-only, or it is mounted by itself.
_STAYS = frozenset({errno.EACCES, errno.EBUSY, errno.EPERM, errno.EROFS, errno.EXDEV})


@contextmanager
def writing(target: str) -> Iterator[None]:
    """Wraps writing to `target`, an option with its file, say. Raises `OSError` that names it for one that does not."""
    try:
        yield
    except (RankportError, BrokenPipeError):  # the command line ends quietly when its reader went away
        raise
    except OSError as error:
        if error.filename == target:  # told already
            raise
        raise OSError(error.errno, f"cannot be written: {reason_of(error)}", target) from error


def write_file(option: str, file: Path, text: str) -> None:
    """Writes the file that an option names; "-" is standard output.

    Raises `OSError` that names both; what was there stays then.
    """
    if str(file) == "-":
        with writing("standard output"):
            print(text, end="", flush=True)
        return
    with writing(f"{option} {file}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_text(file, text)


def replace_text(file: Path, text: str, mode: int = 0o666) -> None:
    """Writes the whole text beside a file's place and moves it there: all of it is seen, or what was there before.

    A file that is not there gets `mode`, less the process's mask. Raises `OSError`.
    """
    file = Path(os.path.realpath(file))
    if file.exists() and not file.is_file():  # a pipe, a device
        _write(file, text)
        return
    beside = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        beside.unlink(missing_ok=True)  # of a process that was killed, or a link to elsewhere
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "w", encoding="utf-8", newline="") as opened:
            opened.write(text)
        if file.exists():
            beside.chmod(file.stat().st_mode & 0o777)
        beside.replace(file)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if error.errno not in _STAYS:
            raise
        _write(file, text)
    except BaseException:  # interrupted, terminated
        beside.unlink(missing_ok=True)
        raise


def harmless(text: str) -> str:
    """Writes characters that a terminal obeys as Python does: names in a bundle of somebody else's may have them."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def as_shown(text: str, stream: TextIO) -> str:
    """Takes a text as a stream is to have it: a terminal harmless, a pipe or a file as it is."""
    return harmless(text) if stream.isatty() else text


def write_json(file: Path | None, content: object, option: str = "--json") -> None:
    """Writes `content` to the file that `option` names, if it does. Raises as `write_file`."""
    if file is not None:
        write_file(option, file, json.dumps(content, indent=2) + "\n")


def _write(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        opened.write(text)
