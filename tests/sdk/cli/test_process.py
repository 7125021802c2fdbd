"""The process of a command: a signal that ends it is its exit code, and a stream escapes what it cannot write."""

import gc
import io
import json
import os
import signal
import subprocess
import sys

import pytest

from rankport.sdk.cli.process import ended_by_signals, escape_unwritable, importing


def _import_that_is_sent(number: signal.Signals) -> None:
    try:
        os.kill(os.getpid(), number)
    finally:
        raise ImportError("initialization failed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_whatever_is_made_of_its_exception(number: signal.Signals) -> None:
    """A module in C that is being imported makes an ImportError of it, and others swallow it in a `finally`."""
    # A process behind `nohup` or `&` ignores some from its start on.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended, ended_by_signals():
            _import_that_is_sent(number)
        assert ended.value.code == 128 + number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_an_ignored_signal_stays_ignored_and_other_errors_are_their_own() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(ImportError), ended_by_signals():
            _import_that_is_sent(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("ends", "code"), [("pass", 0), ("sys.exit(7)", 7), ("raise KeyboardInterrupt", 130), ("1 / 0", 1)]
)
def test_a_process_ends_beside_what_nobody_waits_for(ends: str, code: int) -> None:
    """Python itself would wait for the thread, which never ends; an error, whose traceback is told, has none."""
    program = f"""
import sys, threading
from rankport.sdk.cli.process import ended_beside
thread = threading.Thread(target=threading.Event().wait, daemon={code == 1})
thread.start()
with ended_beside(thread.is_alive):
    print("told")
    {ends}
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (code, "told\n")
    assert ("ZeroDivisionError" in done.stderr) is (code == 1)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_a_stream_cannot_write_is_escaped_as_json_has_it(encoding: str) -> None:
    told = {"text": "né → 🙂 \udcff"}
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    escape_unwritable(stream)
    stream.write(json.dumps(told, ensure_ascii=False))
    stream.flush()
    assert json.loads(raw.getvalue().decode(encoding)) == told
    assert ("é".encode(encoding, "replace") in raw.getvalue()) is (encoding != "ascii")


@pytest.mark.parametrize("collects", [True, False])
def test_imports_are_no_garbage_and_collection_goes_on_as_before(
    collects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    enabled: list[bool] = []

    def note() -> None:
        enabled.append(gc.isenabled())

    def import_nothing() -> None:
        with importing():
            note()
            raise ModuleNotFoundError("nothing")

    monkeypatch.setattr(gc, "freeze", note)
    (gc.enable if collects else gc.disable)()
    try:
        with pytest.raises(ModuleNotFoundError):
            import_nothing()
        note()
    finally:
        gc.enable()
    assert enabled == [False, False, collects]
