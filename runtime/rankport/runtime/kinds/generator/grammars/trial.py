"""`GrammarTrial`: says what is wrong with a grammar before this process compiles it, which nothing could stop here.

Schemas of a few hundred characters compile for minutes, by alternatives that are multiplied and patterns that are
intersected.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

from rankport.protos.errors import BackendError, Unavailable
from rankport.protos.processes.own_process import StaysInProcess
from rankport.protos.reasons import reason_of

PROCESSOR_S = 2.0
"""Seconds of the processor that a grammar may take."""
MEMORY_BYTES = 1 << 30
LONGEST_S = 60.0
"""Seconds by the clock, for a machine that hardly gives the process a processor."""
_CHILD = "rankport.runtime.kinds.generator.grammars.child"


class GrammarTrial(StaysInProcess):
    """Process that compiles one grammar after the other, from the first one on. Any thread may ask."""

    def __init__(
        self,
        processor_s: float = PROCESSOR_S,
        memory_bytes: int = MEMORY_BYTES,
        longest_s: float = LONGEST_S,
    ) -> None:
        """Takes what a grammar may take; starts nothing."""
        self._processor_s, self._memory_bytes, self._longest_s = processor_s, memory_bytes, longest_s
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._trying = threading.Lock()  # held while a grammar is tried
        self._lock = threading.Lock()  # guards the two above: none is started behind a close

    def fault(self, grammar: str) -> str:
        """Says what is wrong with a grammar; empty: it compiles in little time and memory, and has a first token.

        Raises `Unavailable` behind `close`, `BackendError` where no process can be had, or one is killed meanwhile.
        """
        with self._trying:
            try:
                return self._answer(grammar)
            except OSError as error:
                self._end()
                if self._closed:
                    raise _closed() from None
                raise BackendError(
                    f"no process to try the grammar of a text in: {reason_of(error)}"
                ) from error

    def close(self) -> None:
        """Ends the process, whatever it tries."""
        with self._lock:
            self._closed = True
            process = self._process  # which a trial that ends may forget meanwhile
        if process is not None:
            process.kill()
        with self._trying:
            self._end()

    def _answer(self, grammar: str) -> str:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        overdue = threading.Timer(self._longest_s, process.kill)
        overdue.daemon = True
        overdue.start()
        try:
            with suppress(BrokenPipeError):  # of one that ends; how, tells why
                process.stdin.write(json.dumps(grammar).encode() + b"\n")
                process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            overdue.cancel()
        if answer:
            return str(json.loads(answer))
        self._end()
        if self._closed:
            raise _closed()
        ended = process.returncode
        if -ended == signal.SIGPROF:
            return (
                f"it takes more than {self._processor_s:g} s to compile: ask for fewer alternatives within allOf, or "
                "fewer or shorter patterns"
            )
        if -ended == signal.SIGABRT:
            return (
                f"it takes more than {self._memory_bytes >> 20} MiB to compile: ask for fewer alternatives, or shorter "
                "repetitions"
            )
        if -ended == signal.SIGKILL:  # which says nothing of the grammar
            raise BackendError(
                "the process that tries grammars of texts was killed: the machine has no memory left, or gave it no "
                f"processor for {self._longest_s:g} s: ask again"
            )
        raise BackendError(f"the process that tries grammars of texts has ended with {ended}: ask again")

    def _started(self) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._closed:
                raise _closed()
            if self._process is None or self._process.poll() is not None:
                self._end()
                self._process = subprocess.Popen(
                    [sys.executable, "-m", _CHILD, str(self._processor_s), str(self._memory_bytes)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,  # where the library's panics are told
                    start_new_session=True,  # or the keys that end this process would end it during a trial
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                        "PYTHONSAFEPATH": "1",
                        "RAYON_NUM_THREADS": "1",
                    },
                )
            return self._process

    def _end(self) -> None:
        """Kills the process, if there is one, and frees what it had here."""
        process = self._process
        if process is None:
            return
        process.kill()
        with suppress(BrokenPipeError):  # of what it has not read
            process.communicate()
        self._process = None


def _closed() -> Unavailable:
    return Unavailable("the engine is closed; load the bundle again")
