"""Arguments of the examples: what is wrong with one is told before anything is trained."""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from rankport.protos.reasons import reason_of


def add_out(parser: argparse.ArgumentParser, default: Path | None = None, what: str = "") -> None:
    """Adds `--out`, a folder that is made and can be written to. What else it holds stays there."""
    if default is None:
        parser.add_argument("--out", type=_folder, required=True, help=what)
        return
    # As a text, which argparse reads by the option's type.
    shown = f"{what} [default: %(default)s]".strip()
    parser.add_argument("--out", type=_folder, default=str(default), help=shown)


def at_least(least: int) -> Callable[[str], int]:
    """Makes the type of an option that is a whole number from `least` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return number

    return read


def remove_made(folder: Path, names: Iterable[str]) -> None:
    """Removes what an earlier run made in a folder, by name; all else there is its owner's."""
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _folder(text: str) -> Path:
    try:
        os.makedirs(text, exist_ok=True)
        tempfile.TemporaryFile(dir=text).close()
    except OSError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no folder to write to: {reason_of(error)}; name another"
        ) from error
    return Path(text)
