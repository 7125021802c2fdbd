"""Files of text: UTF-8, with other encodings told by name, compressed or not.

Owns opening and encodings; what a line means is `row_readers`'s.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from rankport.protos.errors import InvalidRequest
from rankport.runtime.jobs.files.compressed import compression_in, compression_of, unpacked

_CHUNK_BYTES = 2**20
_MAX_COUNTED_OTHERS = 64 * 2**20  # bytes of a compressed file, whose unpacking takes a second or two
_MAX_COUNTED_BYTES = {"bzip2": 4 * 2**20, "xz": 8 * 2**20}
_SAMPLED_BYTES = 4096
_MARKS = (  # the longer first: that of UTF-32 starts as that of UTF-16
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)

_SEE = "name it so, or give its format (--format)"
_UNPACK = "unpack it first"
_OTHERS = {  # how files that are no text begin: what they are, and what to do
    b"PAR1": ("Parquet", _SEE),
    b"ARROW1": ("Arrow", _SEE),
    b"PK\x03\x04": ("a zip archive", _UNPACK),
}


@contextmanager
def open_text(path: Path) -> Iterator[TextIOWrapper]:
    """Opens a file as UTF-8 with line ends as they are; bytes that are not UTF-8 become lone surrogates."""
    with (
        unpacked(path) as stream,
        TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        yield text


def check_encoding(path: Path) -> None:
    """Raises `InvalidRequest` for a file that is empty or no text, and for one in UTF-16 or UTF-32.

    The former is told by how it begins, the latter by its mark or by the zeros of its first line.
    """
    with unpacked(path) as stream:
        start = stream.read(_SAMPLED_BYTES)
    if not start:
        raise InvalidRequest(f"{path} is empty, as if its writer had failed: leave it out, or write it anew")
    if twice := compression_in(start):
        raise InvalidRequest(f"{path} is compressed more than once, by {twice} within: {_UNPACK}")
    for magic, (what, way) in _OTHERS.items():
        if start.startswith(magic):
            raise InvalidRequest(f"{path} is no text, it is {what}: {way}")
    named = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    name = named or ("UTF-16" if b"\0" in start.partition(b"\n")[0] else None)
    if name:
        how = "" if named else " as it seems: its first line has zero bytes"
        raise InvalidRequest(
            f"{path} is in {name}{how}, and UTF-8 is needed: "
            f"convert it (iconv -f {name} -t UTF-8 {path.name} > utf8-{path.name})"
        )


def count_lines(path: Path, *, quote: bytes | None, header_lines: int) -> int | None:
    """Counts line ends of a file, less its header; with `quote` only those not between two of these bytes."""
    compression = compression_of(path)
    if compression and path.stat().st_size > _MAX_COUNTED_BYTES.get(compression, _MAX_COUNTED_OTHERS):
        return None
    with unpacked(path) as stream:
        lines, inside, last = 0, False, b"\n"
        while chunk := stream.read(_CHUNK_BYTES):
            last = chunk[-1:]
            parts = chunk.split(quote) if quote else [chunk]
            lines += sum(part.count(b"\n") for part in parts[inside::2])
            inside ^= len(parts) % 2 == 0
    return max(0, lines + (last != b"\n") - header_lines)
