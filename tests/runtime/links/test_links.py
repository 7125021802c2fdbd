"""Columns between two ends of a link: what arrives is what was sent, whatever its size, and a full ring says so."""

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.protos.errors import BackendError, InvalidRequest, LimitExceeded, Overloaded
from rankport.runtime.links import failures
from rankport.runtime.links.columns import Columns
from rankport.runtime.links.frames import Frame, FrameReader
from rankport.runtime.links.link import Link, NoRoomError
from rankport.runtime.links.ring import Ring
from support.open_memory import shared_memory_open

RING_BYTES = 2**17


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Link, Link]]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "link"))
        listening.listen()
        one = Link.connect(str(tmp_path / "link"), RING_BYTES)
        other = Link.accept(listening.accept()[0])
        yield one, other
        one.close()
        other.close()


def columns(size: int) -> Columns:
    rng = np.random.default_rng(size)
    return Columns(
        {"timeout_s": None, "size": size, "name": "ü"},
        {
            "flags": rng.integers(0, 2, size + 1).astype(
                np.bool_
            ),  # of an odd number of bytes before wider ones
            "ids": rng.integers(-1, 9, size),
            "rows": rng.standard_normal((size, 3)).astype(np.float16),
            "none": np.empty((0, 4), np.float32),
        },
    )


@pytest.mark.parametrize(
    "size", [0, 1, 1001, 4001, 50_001]
)  # in the frame, in the ring, larger than the ring
def test_columns_arrive_as_they_were_sent_in_both_directions(ends: tuple[Link, Link], size: int) -> None:
    sent = columns(size)
    one, other = ends
    for sender, frames in ((one, other.frames()), (other, one.frames())):
        threading.Thread(target=sender.send, args=(3, 7, sent)).start()
        kind, request, received = next(frames)
        assert (kind, request, received.values) == (3, 7, sent.values)
        assert received.arrays.keys() == sent.arrays.keys()
        for name, array in sent.arrays.items():
            assert received.arrays[name].dtype == array.dtype
            assert received.arrays[name].flags.aligned
            np.testing.assert_array_equal(received.arrays[name], array)


def test_a_full_ring_is_told_and_has_room_once_it_is_read(ends: tuple[Link, Link]) -> None:
    one, other = ends
    sent = 0
    with suppress(NoRoomError):
        for _ in range(100):
            one.send(1, sent, columns(4001))
            sent += 1
    assert 2 <= sent < 100
    one.send(1, sent, columns(4001), wait=True)  # by the socket, behind the others
    frames = other.frames()
    for number in range(sent + 1):
        assert next(frames)[1] == number
    one.send(1, 99, columns(4001))
    _, number, received = next(frames)
    assert number == 99
    np.testing.assert_array_equal(received.arrays["ids"], columns(4001).arrays["ids"])


def test_numbers_are_seen_as_they_were_posted_last_while_columns_come_and_go(ends: tuple[Link, Link]) -> None:
    one, other = ends
    frames = other.frames()
    assert other.posted() == [0.0] * 16
    for number in range(20):
        one.post([number, 0.5, -number])
        one.send(1, number, columns(4001))
        _, _, received = next(frames)
        np.testing.assert_array_equal(received.arrays["ids"], columns(4001).arrays["ids"])
        assert other.posted() == [number, 0.5, -number, *[0.0] * 13]
        assert one.posted() == [0.0] * 16
    one.close()
    one.post([1.0])  # to nobody
    assert one.posted() is None


def test_a_ring_goes_round_many_times() -> None:
    fd = Ring.memory(4096)
    writer, reader = Ring(fd), Ring(fd)
    os.close(fd)
    rng = np.random.default_rng(0)
    waiting: list[tuple[int, np.ndarray]] = []
    for _ in range(3000):
        part = rng.integers(0, 256, int(rng.integers(1, 1500))).astype(np.uint8)
        while (place := writer.write([part])) is None:
            at, expected = waiting.pop(0)
            np.testing.assert_array_equal(reader.take(at, len(expected)), expected)
        waiting.append((place, part))
    assert writer.write([np.zeros(4097, np.uint8)]) is None


def test_an_end_that_goes_ends_the_other(ends: tuple[Link, Link]) -> None:
    one, other = ends
    one.send(1, 5, columns(10))
    one.close()
    assert [request for _, request, _ in other.frames()] == [5]
    other.send(1, 6, columns(10))  # to nobody


def test_frames_are_read_from_pieces_of_any_size() -> None:
    frames = [Frame(2, 2**40, b"[]", 3, body=b"abc"), Frame(1, 0, b"{}", 8, place=640), Frame(4, 1, b"", 0)]
    data = b"".join(part for frame in frames for part in frame.parts())
    reader = FrameReader()
    assert [frame for index in range(len(data)) for frame in reader.take(data[index : index + 1])] == frames
    assert list(FrameReader().take(data)) == frames


def test_columns_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="is of object"):
        Columns.read(b'[{},[["a","object",[1]]]]', np.zeros(8, np.uint8))
    with pytest.raises(ValueError, match="and 8 bytes came"):
        Columns.read(b'[{},[["a","int64",[2]]]]', np.zeros(8, np.uint8))


def test_errors_are_the_same_at_the_other_end() -> None:
    overloaded = Overloaded("full")
    overloaded.retry_after_s, overloaded.reason = 0.5, "deadline"
    for error in (overloaded, InvalidRequest("item 3"), LimitExceeded("long"), BackendError("pass")):
        other = failures.read(failures.told(error))
        assert (type(other), str(other)) == (type(error), str(error))
    again = failures.read(failures.told(overloaded))
    assert isinstance(again, Overloaded)
    assert (again.retry_after_s, again.reason) == (0.5, "deadline")
    bug = failures.read(failures.told(KeyError("x")))
    assert (type(bug), str(bug)) == (BackendError, "KeyError: 'x'")


WITHOUT_THREADS = """
import resource, socket
from rankport.runtime.links.sender import Sender

one, other = socket.socketpair()
sender = Sender(one)
with open("/proc/self/statm") as told:
    mapped = int(told.read().split()[0]) * resource.getpagesize()
rest = bytes(2**23)
resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**25, resource.RLIM_INFINITY))
import threading
threading.stack_size(2**28)
sender.send([rest])
sender.send([b"more"])
received = 0
while chunk := other.recv(2**20):
    received += len(chunk)
print(received < len(rest))
"""


def test_a_link_whose_rest_no_thread_can_send_ends() -> None:
    """Its other end would wait for ever, or read what follows as that rest."""
    command = [sys.executable, "-c", WITHOUT_THREADS]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "True\n"


@pytest.mark.parametrize(("call", "before"), [("memfd_create", 1), ("ftruncate", 0), ("ftruncate", 1)])
def test_a_link_whose_memory_cannot_be_had_leaves_none_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str, before: int
) -> None:
    had, own = shared_memory_open(), getattr(os, call)
    left = iter(range(before))

    def fails(*arguments: Any) -> Any:
        if next(left, None) is None:
            raise OSError(errno.EMFILE, "Too many open files")
        return own(*arguments)

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="Too many open files"):
        Link.connect(str(tmp_path / "link"), RING_BYTES)
    assert shared_memory_open() == had
