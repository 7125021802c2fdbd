"""Process of a command: the signals that end it, and standard streams that take every character, or say why not."""

import codecs
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from rankport.sdk.cli.output.writing import writing

_ESCAPED = "rankport.escaped"


@contextmanager
def importing() -> Iterator[None]:
    """Has no garbage collected while modules are imported, nor looked for in them later: all that they make stays."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Has the signals that ask a process to end do so as Ctrl-C does, so that a command cleans up what it half made.

    Exit codes are 128 and the number. That holds too where the code that one came into makes an error of its own of the
    exception, as modules in C do while they are imported. `serve` has handlers of its own.
    """
    came: list[int] = []

    def end(number: int, _: FrameType | None) -> None:
        came.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    left = (signal.SIG_IGN, None)  # to nohup, or the background of a script; to what is not Python's
    before = {
        number: signal.signal(number, end)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) not in left
    }
    try:
        yield
    except BaseException:
        if came:
            sys.exit(128 + came[0])
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_beside(goes_on: Callable[[], bool]) -> Iterator[None]:
    """Ends the process behind the block, with the block's exit code, where something `goes_on` that it would wait for.

    What is no end of the process, an error, passes.
    """
    try:
        yield
    except SystemExit as ended:
        if goes_on():
            _end_now(ended.code if isinstance(ended.code, int) else 1)
        raise
    except KeyboardInterrupt:
        if goes_on():
            _end_now(128 + signal.SIGINT)
        raise
    if goes_on():
        _end_now(0)


def _end_now(code: int) -> NoReturn:
    flush_output()
    os._exit(code)


def open_streams() -> None:
    """Gives a process that was started without standard streams, as by >&-, some; and escapes what one cannot write."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
    escape_unwritable(sys.stdout)


def escape_unwritable(stream: TextIO) -> None:
    r"""Has a stream write what its encoding lacks as JSON does (\u00e9), in the place of an error.

    Locales have other encodings than UTF-8, and names of files may be no text at all.
    """
    if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
        codecs.register_error(_ESCAPED, _escaped)
        stream.reconfigure(errors=_ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = (units[place : place + 2] for place in range(0, len(units), 2))
    return "".join(f"\\u{int.from_bytes(unit):04x}" for unit in pairs), error.end


def flush_output(more: str = "") -> None:
    """Writes out what standard output still holds, and `more`. Python would end with a code of its own where it fails.

    Raises `OSError`.
    """
    try:
        with writing("standard output"):
            sys.stdout.write(more)
            sys.stdout.flush()
    except BrokenPipeError:  # its reader went away, which is no failure to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries, and tells, again
        raise
