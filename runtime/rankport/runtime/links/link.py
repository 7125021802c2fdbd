"""`Link`: one connection of two processes: frames over a socket, large columns through a ring each way."""

import os
import socket
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Self

import numpy as np

from rankport.runtime.links.columns import Columns
from rankport.runtime.links.frames import INLINE, Frame, FrameReader
from rankport.runtime.links.ring import Ring
from rankport.runtime.links.sender import Sender

_SMALL_BYTES = 16 * 2**10  # travel in the frame
_RECEIVE_BYTES = 2**20


class NoRoomError(Exception):
    """Ring that is full: the other end is behind."""


class Link:
    """One end. Any thread may send; one thread receives."""

    def __init__(self, sock: socket.socket, outward: Ring, inward: Ring) -> None:
        """Takes the socket over."""
        self._socket, self._outward, self._inward = sock, outward, inward
        self._sender = Sender(sock)
        self._lock = threading.Lock()  # what is written to the ring first is told first
        self._open, self._receiving, self._freed = True, False, False

    @classmethod
    def connect(cls, path: str, ring_bytes: int) -> Self:
        """Connects to who listens at a unix socket, with memory of so many bytes each way. Raises `OSError`."""
        sock = socket.socket(socket.AF_UNIX)
        fds: list[int] = []
        try:
            for _ in range(2):
                fds.append(Ring.memory(ring_bytes))  # the first is closed where the second fails
            sock.connect(path)
            socket.send_fds(sock, [b"\0"], fds)
            return cls(sock, *map(Ring, fds))
        except BaseException:
            sock.close()
            raise
        finally:
            for fd in fds:
                os.close(fd)

    @classmethod
    def accept(cls, sock: socket.socket) -> Self:
        """Takes over the other end of a connection. Raises `OSError` if who connected is gone already."""
        _, fds, _, _ = socket.recv_fds(sock, 1, 2)
        try:
            if len(fds) != 2:
                raise ConnectionError("no memory came with the connection")
            inward, outward = map(Ring, fds)
            return cls(sock, outward, inward)
        finally:
            for fd in fds:
                os.close(fd)

    def send(self, kind: int, request: int, columns: Columns, *, wait: bool = False) -> None:
        """Sends a message.

        Columns that are larger than the ring travel in the socket, slowly; with `wait`, also where the ring is full.
        Otherwise raises `NoRoomError` then, and nothing was sent. Nobody hears it once the link is closed.
        """
        head, body = columns.head(), columns.body()
        size = sum(part.nbytes for part in body)
        with self._lock:
            if not self._open:
                return
            place = INLINE
            if _SMALL_BYTES < size <= self._outward.capacity_bytes:
                written = self._outward.write(body)
                if written is None and not wait:
                    raise NoRoomError
                place = INLINE if written is None else written
            own = b"".join(part.tobytes() for part in body) if place == INLINE else b""
            self._sender.send(Frame(kind, request, head, size, place, own).parts())

    def post(self, numbers: Sequence[float]) -> None:
        """Writes up to 16 numbers where the other end can see them at any time; nothing is sent."""
        with self._lock:
            if self._open:
                self._outward.post(numbers)

    def posted(self) -> list[float] | None:
        """Reads the numbers that the other end posted last, 0 where none was; None once the link is closed."""
        with self._lock:
            return self._inward.posted() if self._open else None

    def frames(self) -> Generator[tuple[int, int, Columns], None, None]:
        """Gives the messages as they come: kind, request, columns. Ends when the other end is gone."""
        reader, self._receiving = FrameReader(), True
        try:
            while received := self._received():
                for frame in reader.take(received):
                    yield frame.kind, frame.request, self._columns(frame)
        finally:
            self._receiving = False
            self.close()

    def close(self) -> None:
        """Ends the connection: both ends' `frames` end. Who receives frees it then."""
        self._sender.close()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._lock:
            if self._open:
                self._outward.close()
            self._open = False
            if not self._receiving and not self._freed:
                self._freed = True
                self._inward.close()
                self._socket.close()

    def _received(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except OSError:
            return b""

    def _columns(self, frame: Frame) -> Columns:
        if frame.place == INLINE:
            body = np.frombuffer(frame.body, np.uint8) if frame.body else np.empty(0, np.uint8)
        else:
            body = self._inward.take(frame.place, frame.body_bytes)
        return Columns.read(frame.head, body)
