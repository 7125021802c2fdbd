"""`SnapshotWriter`: rows in, as they come; a snapshot file in its place at the end, or nothing.

Owns the staged columns, a hidden folder beside the file's place, from which a writer that was killed goes on. Tokens
go to where they stay, so they are written once; the other columns follow them at the end, with an index over all
digests (28 bytes of memory an item, some 100 while they are sorted).
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import StoreError
from rankport.protos.reasons import reason_of
from rankport.runtime.store.durable_files import sync_names
from rankport.runtime.store.snapshot.layout import (
    BLOCK_BYTES,
    BLOCK_WORDS,
    FACTS,
    MAX_BUCKET,
    MAX_ROWS,
    Header,
    Section,
    Sections,
    bucket_bits,
    key_digests,
    row_sums,
    word_sums,
)
from rankport.runtime.store.snapshot.store import SUFFIX
from rankport.runtime.store.token_spec import TokenSpec

_CHUNK_BLOCKS = 2**12
_DIGEST_BYTES = 16
_LOCK = "lock"
_TRIES = 100  # of one to lock, while others begin and end


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of some items beside their tokens."""

    keys: Sequence[str]
    content_hashes: Sequence[bytes]  # [16] each
    written_us: Sequence[int]


class SnapshotWriter:
    """Writer of one encoder's file; a context manager. Not guarded against threads."""

    def __init__(self, directory: Path, fingerprint: str, spec: TokenSpec, origin: str) -> None:
        """Begins, or goes on where one was killed that wrote of the same `origin` with the same spec.

        Raises:
            StoreError: the directory cannot be written, or another process writes this snapshot.
        """
        self.path = directory / f"{fingerprint}{SUFFIX}"
        self.spec = spec
        self._fingerprint = fingerprint
        self._staged = directory / f".{fingerprint}.part"
        self._header = Header(
            fingerprint=fingerprint, spec=spec, rows=0, items=0, key_bytes=0, bucket_bits=1, written_us=0
        )
        with self._told():
            self._lock = self._locked()
            about = json.dumps({"origin": origin, "spec": str(spec)}, sort_keys=True)
            note = self._staged / "origin.json"
            if not note.is_file() or note.read_text() != about:
                for name in ("tokens", "facts", "keys", "key_ends", "digests"):
                    (self._staged / name).unlink(missing_ok=True)
                note.write_text(about)
            self._columns = {
                name: _opened(self._staged / name)
                for name in ("tokens", "facts", "keys", "key_ends", "digests")
            }
            self.rows, self._key_bytes = self._cut_to_whole_rows()

    def written(self) -> set[bytes]:
        """Returns the digests [16] of the rows that are written."""
        with self._told():
            content = (self._staged / "digests").read_bytes()
        return {content[at : at + _DIGEST_BYTES] for at in range(0, len(content), _DIGEST_BYTES)}

    def absent(self, keys: Sequence[str], written: set[bytes]) -> list[int]:
        """Returns the places of those keys whose digests are not among the `written` ones."""
        digests = key_digests(keys).tobytes()
        pieces = (digests[at : at + _DIGEST_BYTES] for at in range(0, len(digests), _DIGEST_BYTES))
        return [place for place, digest in enumerate(pieces) if digest not in written]

    def append(self, facts: Facts, tokens: NDArray[np.floating]) -> None:
        """Writes items; a key that comes again counts as it came last. Tokens [items, k, hidden] fit the spec.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError: the disk is full, or there are more rows than a file takes.
        """
        if self.rows + len(facts.keys) > MAX_ROWS:
            raise StoreError(f"a snapshot has at most {MAX_ROWS} rows: spread the items over several")
        digests = key_digests(facts.keys)
        names = [key.encode() for key in facts.keys]
        packed = np.zeros((len(names), self._header.row_bytes), np.uint8)
        packed[:, : self.spec.nbytes] = self.spec.pack(tokens)
        columns = np.zeros(len(names), FACTS)
        columns["content_hash"] = np.frombuffer(b"".join(facts.content_hashes), "V16")
        columns["written_us"] = facts.written_us
        columns["sum"] = row_sums(digests, columns, packed)
        ends = self._key_bytes + np.cumsum([len(name) for name in names], dtype=np.uint64)
        with self._told():
            for name, content in (
                ("tokens", packed.tobytes()),
                ("facts", columns.tobytes()),
                ("keys", b"".join(names)),
                ("key_ends", ends.astype("<u8").tobytes()),
                ("digests", digests.tobytes()),
            ):
                self._columns[name].write(content)
            for stream in self._columns.values():
                stream.flush()
        self.rows += len(names)
        self._key_bytes = int(ends[-1]) if len(ends) else self._key_bytes

    def seal(self) -> Path:
        """Writes the index and makes the file whole and durable, where it is staged. Raises `StoreError`."""
        with self._told():
            firsts, seconds, rows = self._index()
            bits = bucket_bits(len(rows))
            counts = np.bincount((firsts >> np.uint64(64 - bits)).astype(np.int64), minlength=2**bits)
            if counts.max(initial=0) > MAX_BUCKET:
                raise StoreError(
                    f"{counts.max()} keys share a bucket of the index: they were made to collide"
                )
            header = replace(
                self._header,
                rows=self.rows,
                items=len(rows),
                key_bytes=self._key_bytes,
                bucket_bits=bits,
                written_us=time.time_ns() // 1000,
            )
            starts = np.concatenate([[0], np.cumsum(counts)]).astype("<u4")
            index = {"firsts": firsts, "seconds": seconds, "index_rows": rows.astype("<u4"), "starts": starts}
            self._write_behind_tokens(header, {name: column.tobytes() for name, column in index.items()})
        return self._staged / "tokens"

    def publish(self) -> None:
        """Puts the sealed file into its place in one step. Raises `StoreError`."""
        with self._told():
            os.replace(self._staged / "tokens", self.path)
            sync_names(self.path.parent)
        self.discard()

    def discard(self) -> None:
        """Deletes what is staged, the lock last: who finds it gone begins anew, and others find it taken."""
        if self._lock.closed:
            return
        with suppress(OSError):
            for path in sorted(self._staged.iterdir(), key=lambda path: path.name == _LOCK):
                path.unlink()
            self._staged.rmdir()  # unless another writer has begun in it
        self.close()

    def close(self) -> None:
        """Leaves what is staged to a writer that goes on. Closing twice does nothing."""
        for stream in self._columns.values():
            stream.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _index(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
        """Sorts the digests, each of them once, with the last of its rows."""
        digests = np.frombuffer((self._staged / "digests").read_bytes(), "<u8").reshape(-1, 2)
        # Stable: of equal digests the last row comes last. First halves alone hardly ever are equal.
        order = np.argsort(digests[:, 0], kind="stable")
        found = digests[order]
        ties = (found[1:, 0] == found[:-1, 0]) & (found[1:, 1] != found[:-1, 1])
        if ties.any():
            order = np.lexsort((digests[:, 1], digests[:, 0]))
            found = digests[order]
        last = np.ones(len(order), np.bool_)
        last[:-1] = (found[1:] != found[:-1]).any(axis=1)
        return found[last, 0], found[last, 1], order[last]

    def _write_behind_tokens(self, header: Header, index: dict[str, bytes]) -> None:
        sections = Sections.of(header)
        stream = self._columns["tokens"]
        for name in ("facts", "key_ends", "keys"):
            section: Section = getattr(sections, name)
            stream.seek(section.offset)
            with (self._staged / name).open("rb") as column:
                shutil.copyfileobj(column, stream, 2**20)
        for name, content in index.items():
            section = getattr(sections, name)
            stream.seek(section.offset)
            stream.write(content)
        stream.truncate(sections.sums.offset)
        stream.flush()
        sums = np.concatenate([*_sums_of(self._staged / "tokens", sections.checked)])
        stream.seek(sections.sums.offset)
        stream.write(sums.tobytes())
        stream.truncate(sections.total_bytes)
        stream.seek(0)
        stream.write(replace(header, sums_sum=int(word_sums(sums[None])[0])).pack())
        stream.flush()
        os.fsync(stream.fileno())

    def _cut_to_whole_rows(self) -> tuple[int, int]:
        """Cuts the columns to the rows that all of them have, and stands behind them: rows, bytes of keys."""
        sizes = {
            "facts": FACTS.itemsize,
            "key_ends": 8,
            "digests": _DIGEST_BYTES,
            "tokens": self._header.row_bytes,
        }
        lengths = {name: stream.seek(0, os.SEEK_END) for name, stream in self._columns.items()}
        lengths["tokens"] = max(0, lengths["tokens"] - BLOCK_BYTES)
        rows = min(lengths[name] // size for name, size in sizes.items())
        ends = np.fromfile(self._staged / "key_ends", "<u8", rows)
        rows = int(np.searchsorted(ends, lengths["keys"], side="right"))
        key_bytes = int(ends[rows - 1]) if rows else 0
        cuts = {name: rows * size for name, size in sizes.items()} | {"keys": key_bytes}
        cuts["tokens"] += BLOCK_BYTES
        for name, stream in self._columns.items():
            stream.truncate(cuts[name])
            stream.seek(0, os.SEEK_END)
        return rows, key_bytes

    def _locked(self) -> BinaryIO:
        """Makes the folder and locks it. One that its last writer deletes meanwhile is made anew."""
        path, gone = self._staged / _LOCK, OSError()
        for _ in range(_TRIES):
            try:
                self._staged.mkdir(parents=True, exist_ok=True)
                lock = path.open("wb")
            except (FileExistsError, FileNotFoundError) as error:
                gone = error
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.close()
                raise StoreError(f"another process writes {self.path}: wait until it has ended") from error
            if _is_at(lock, path):
                return lock
            lock.close()
        raise gone

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"snapshot {self.path} cannot be written: {reason_of(error)}; what is staged in {self._staged} stays: "
                "free some room, or give another directory, and run again"
            ) from error


def _is_at(stream: BinaryIO, path: Path) -> bool:
    """Says whether a file that is open still stands there."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    return False


def _opened(path: Path) -> BinaryIO:
    return path.open("r+b" if path.is_file() else "w+b")


def _sums_of(path: Path, checked: Section) -> Iterator[NDArray[np.uint64]]:
    """Sums the blocks of a file's columns."""
    with path.open("rb") as stream:
        stream.seek(checked.offset)
        while content := stream.read(_CHUNK_BLOCKS * BLOCK_BYTES):
            yield word_sums(np.frombuffer(content, "<u8").reshape(-1, BLOCK_WORDS))
