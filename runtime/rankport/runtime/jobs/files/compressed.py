"""Compressed files of text: gzip, bzip2, xz, zstd and lz4, told by how a file begins, not by its name.

A file may be several streams behind each other, as parallel compressors write them. What breaks off, or what follows
the last one and is none, raises: OSError, EOFError or zlib.error.
"""

import gzip
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast

from rankport.protos.installed.extras import extras_named

Compression = Literal["gzip", "bzip2", "xz", "zstd", "lz4"]

_CHUNK_BYTES = 2**18
_STARTS: Mapping[Compression, re.Pattern[bytes]] = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "lz4": re.compile(rb"\x04\x22\x4d\x18"),
}
_START_BYTES = 10


def compression_in(start: bytes) -> Compression | None:
    """Tells by how a file begins how it is compressed, None of one that is not."""
    return next((name for name, pattern in _STARTS.items() if pattern.match(start)), None)


def compression_of(path: Path) -> Compression | None:
    """Tells how a file is compressed, None of one that is not. Raises OSError."""
    with path.open("rb") as stream:
        return compression_in(stream.read(_START_BYTES))


@contextmanager
def unpacked(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for the block, unpacked; what is not compressed as it is, to be sought in.

    Raises OSError, and MissingExtra for zstd and lz4 without pyarrow.
    """
    compression = compression_of(path)
    match compression:
        case None:
            with path.open("rb") as stream:
                yield stream
        case "gzip":
            with gzip.open(path) as stream:
                yield cast("BinaryIO", stream)
        case "bzip2" | "xz":
            with io.BufferedReader(_Streams(path, _unpacker_of(compression)), _CHUNK_BYTES) as stream:
                yield stream
        case _:
            with extras_named(f"reading {path}, which is compressed by {compression},", "parquet"):
                import pyarrow
            with (
                pyarrow.input_stream(str(path), compression=compression) as raw,
                io.BufferedReader(raw, _CHUNK_BYTES) as stream,
            ):
                yield stream


class _Unpacker(Protocol):
    """Unpacker of one stream, as the standard library has them."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _unpacker_of(compression: Literal["bzip2", "xz"]) -> Callable[[], _Unpacker]:
    if compression == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)
    import bz2

    return bz2.BZ2Decompressor


class _Streams(io.RawIOBase):
    """Reader of all streams of a file: those of the standard library end in silence at what they cannot read."""

    def __init__(self, path: Path, make: Callable[[], _Unpacker]) -> None:
        self._file = path.open("rb", buffering=0)
        self._make, self._unpacker = make, make()
        self._behind = b""  # the end of a stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        while True:
            data, unpacker = b"", self._unpacker
            if unpacker.eof or unpacker.needs_input:
                data, self._behind = self._behind or self._file.read(_CHUNK_BYTES), b""
                if not data and not unpacker.eof:
                    raise EOFError("its compressed stream is cut short")
                if not data:
                    return 0
            if unpacker.eof:
                data = data.lstrip(b"\0")  # xz may pad
                if not data:
                    continue
                self._unpacker = unpacker = self._make()
            found = self._unpacked(unpacker, data, len(room))
            if unpacker.eof:
                self._behind = unpacker.unused_data
            if found:
                room[: len(found)] = found
                return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()

    @staticmethod
    def _unpacked(unpacker: _Unpacker, data: bytes, most: int) -> bytes:
        try:
            return unpacker.decompress(data, most)
        except (OSError, EOFError):
            raise
        except Exception as error:  # lzma.LZMAError, of a module that some builds of Python lack
            raise OSError(str(error)) from error
