"""Calls made in a forked child of the test's process."""

import os
import select
import signal
from collections.abc import Callable

WAIT_S = 30.0  # never reached; a hang becomes a failure


def in_forked_child(call: Callable[[], object]) -> str:
    """Tells what `call` gives in a child: its result, or its error as `Type: message`; "hangs" if it does."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            told = repr(call())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], WAIT_S)
        if not ready:
            os.kill(child, signal.SIGKILL)
        return os.read(reading, 10_000).decode() if ready else "hangs"
    finally:
        os.close(reading)
        os.waitpid(child, 0)
