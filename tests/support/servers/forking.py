"""Calls made in a forked child of the test's process."""

import os
import select
import signal
from collections.abc import Callable

WAIT_S = 30.0  # never reached; a hang becomes a failure
_TRIES = 3
_BEGUN = b"+"


def in_forked_child(call: Callable[[], object]) -> str:
    """Tells what `call` gives in a child: its result, or its error as `Type: message`; "hangs" if it does.

    A child that dies before it calls, in what libraries of the test's process do at a fork, is forked again.
    """
    for _ in range(_TRIES):
        told = _forked(call)
        if told.startswith(_BEGUN):
            return told.removeprefix(_BEGUN).decode()
    return "dies at the fork"


def _forked(call: Callable[[], object]) -> bytes:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, _BEGUN)
        try:
            told = repr(call())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    try:
        told_so_far = b""
        while select.select([reading], [], [], WAIT_S)[0]:
            part = os.read(reading, 10_000)
            if not part:
                return told_so_far
            told_so_far += part
        os.kill(child, signal.SIGKILL)
        return _BEGUN + b"hangs"
    finally:
        os.close(reading)
        os.waitpid(child, 0)
