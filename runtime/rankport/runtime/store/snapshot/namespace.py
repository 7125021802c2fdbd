"""`SnapshotNamespace`: batched access to the tokens that one encoder made, in one file."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import EntryInfo, StoredTokens, TokenEntry, TokenNamespace, Written
from rankport.runtime.store.entries import Fence
from rankport.runtime.store.snapshot.current_file import CurrentFile
from rankport.runtime.store.snapshot.layout import LayoutError, key_digests
from rankport.runtime.store.snapshot.snapshot_file import SnapshotFile
from rankport.runtime.store.watched_file import FileState

_KEYS_PER_PAGE = 4096
_MEND = "write the snapshot anew (`rankport store copy`)"


class SnapshotNamespace(TokenNamespace):
    """Item key -> tokens of one encoder, only read. Any thread may call it while its store is open."""

    def __init__(self, current: CurrentFile) -> None:
        header = current.get().header
        super().__init__(header.fingerprint, header.spec)
        self._current = current

    def read(self, keys: Sequence[str], *, skip_corrupt: bool = False) -> StoredTokens:
        """Reads the tokens of those keys that are there, all of one file.

        Raises:
            InvalidRequest: something is not an item key.
            StoreError: a row is corrupt (the message names its key) and not to be skipped, the index is, or the file
                cannot be read.
        """
        digests = key_digests(keys)
        file = self._current.get()
        places, rows = file.find(digests)
        taken = file.tokens(digests[places], rows)
        packed = taken.tokens
        if not taken.whole.all():
            if not skip_corrupt:
                key = keys[int(places[~taken.whole][0])]
                raise self.corrupt(key, LayoutError("its sum does not match"), _MEND)
            places, packed = places[taken.whole], packed[taken.whole]
        tokens = self.spec.unpack(packed)
        tokens.setflags(write=False)
        return StoredTokens(tokens, places)

    def info_many(self, keys: Sequence[str]) -> list[EntryInfo | None]:
        """Returns content hash and write time of each key, None where it is absent; raises as `read`."""
        infos: list[EntryInfo | None] = [None] * len(keys)
        places, facts = self._facts(keys)
        columns = zip(places, _hashes(facts), facts["written_us"].tolist(), strict=True)
        for place, content_hash, written_us in columns:
            try:
                infos[place] = EntryInfo(content_hash, datetime.fromtimestamp(written_us / 1e6, UTC))
            except (ValueError, OverflowError, OSError) as error:
                raise self.corrupt(keys[place], LayoutError(f"written at {written_us}"), _MEND) from error
        return infos

    def content_hashes(self, keys: Sequence[str]) -> list[bytes | None]:
        """Returns the content hash of each key, None where it is absent; raises as `read`."""
        hashes: list[bytes | None] = [None] * len(keys)
        places, facts = self._facts(keys)
        for place, content_hash in zip(places, _hashes(facts), strict=True):
            hashes[place] = content_hash
        return hashes

    def put_many(
        self, entries: Sequence[TokenEntry], *, fence: Fence | None = None, replace: bool = True
    ) -> NoReturn:
        """Raises `StoreError`: a snapshot is written as a whole."""
        raise self._read_only()

    def delete_many(self, keys: Sequence[str], *, fence: Fence | None = None) -> NoReturn:
        """Raises `StoreError`: a snapshot is written as a whole."""
        raise self._read_only()

    def pages(self) -> Iterator[list[Written]]:
        """Yields the keys with their marks, some at a time, all of one file.

        Raises:
            StoreError: a block is corrupt, or the file was cut or written over meanwhile.
        """
        file = self._current.get()
        for begin in range(0, file.header.rows, _KEYS_PER_PAGE):
            if file.state() in (FileState.CUT, FileState.WRITTEN):
                file = self._current.get()  # says what is the matter, or has the same bytes again
            yield _page(file, begin, min(begin + _KEYS_PER_PAGE, file.header.rows))

    def version(self) -> int:
        """Returns a number that is another one for every other file."""
        return self._current.version()

    @property
    def writable(self) -> bool:
        """False: a snapshot is only read."""
        return False

    @property
    def alive(self) -> bool:
        """False where no read would succeed now."""
        return self._current.alive

    def __len__(self) -> int:
        return self._current.get().header.items

    def _facts(self, keys: Sequence[str]) -> tuple[list[int], NDArray[np.void]]:
        file = self._current.get()
        places, rows = file.find(key_digests(keys))
        return places.tolist(), file.facts(rows)

    def _read_only(self) -> StoreError:
        return StoreError(
            f"the tokens of encoder {self.fingerprint} are a snapshot, which is only read: write to a store in LMDB, "
            "and copy that (`rankport store copy`)"
        )


def _page(file: SnapshotFile, begin: int, end: int) -> list[Written]:
    names = file.keys(begin, end)
    try:
        keys = [name.decode() for name in names]
    except UnicodeDecodeError as error:
        raise StoreError(f"snapshot {file.path} is corrupt: a key is not UTF-8: {error.reason}") from error
    rows = np.arange(begin, end)
    facts = file.facts(rows)
    digests = key_digests(keys)
    marks = facts.tobytes()
    size = facts.dtype.itemsize
    places, found = file.find(digests)
    current = places[found == rows[places]].tolist()  # the others were written again behind them
    return [Written(keys[place], marks[place * size : place * size + 24]) for place in current]


def _hashes(facts: NDArray[np.void]) -> list[bytes]:
    joined = np.ascontiguousarray(facts["content_hash"]).tobytes()
    return [joined[start : start + 16] for start in range(0, len(joined), 16)]
