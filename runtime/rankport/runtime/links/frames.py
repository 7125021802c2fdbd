"""Frames of a link: which message it is, whose, and where its bytes are."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_HEAD = struct.Struct("<BxxxIQQq")
INLINE = -1
"""The place of bytes that are in the frame itself."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: int
    request: int
    head: bytes  # of its `Columns`
    body_bytes: int
    place: int = INLINE  # of the body in the ring
    body: bytes = b""  # where it is in the frame

    def parts(self) -> list[bytes]:
        """Writes it."""
        fixed = _HEAD.pack(self.kind, len(self.head), self.request, self.body_bytes, self.place)
        return [fixed, self.head, self.body] if self.body else [fixed, self.head]


class FrameReader:
    """Cuts bytes, as they come, into frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def take(self, received: bytes) -> Iterator[Frame]:
        """Adds bytes, and gives the frames that are whole."""
        self._bytes += received
        start = 0
        while (frame := self._frame(start)) is not None:
            start += _HEAD.size + len(frame.head) + len(frame.body)
            yield frame
        del self._bytes[:start]

    def _frame(self, start: int) -> Frame | None:
        if len(self._bytes) < start + _HEAD.size:
            return None
        kind, head_bytes, request, body_bytes, place = _HEAD.unpack_from(self._bytes, start)
        middle = start + _HEAD.size + head_bytes
        end = middle + (body_bytes if place == INLINE else 0)
        if len(self._bytes) < end:
            return None
        head = bytes(memoryview(self._bytes)[start + _HEAD.size : middle])
        return Frame(kind, request, head, body_bytes, place, bytes(memoryview(self._bytes)[middle:end]))
