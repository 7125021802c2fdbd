"""Offline encode job: rows of items into one namespace of the token store.

Owns what is encoded, in which batches, and the count of everything; files are read ahead of the encoder, and batches
stored behind it, by `stages`. A batch goes to the store in one durable transaction, so a job killed at any moment has
stored whole batches, and the next run starts behind them.

Batches are cut from the input before looking at what is stored: windows of rows, sorted by text length so
that little is padded. A run after a kill thus encodes the very batches that are missing, with the same padding
and the same bits. Only rows of batches that are partly unchanged are gathered into new ones.

Of several rows with one id the first usable one counts, and the others are bad rows. A bad row leaves the
tokens of its id as they are.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass

from rankport.protos.errors import PairingError, StoreError
from rankport.protos.wording import counted
from rankport.runtime.jobs.batching import WINDOW_CHARS, chunks, length_batches, row_chars, windows
from rankport.runtime.jobs.config import DEFAULTS, EncodeJobConfig
from rankport.runtime.jobs.encode_report import EncodeProgress, EncodeReport
from rankport.runtime.jobs.key_set import KeySet
from rankport.runtime.jobs.pruning import Pruned, prune
from rankport.runtime.jobs.row_encoder import Encoder, RowEncoder, content_hash
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.jobs.stages import StoredBehind, read_ahead
from rankport.runtime.jobs.storable import storable
from rankport.runtime.store.contract import TokenEntry, TokenNamespace, TokenStore
from rankport.runtime.store.token_spec import TokenSpec

_DELETE_BATCH = 1000
_WINDOWS_AHEAD, _BATCHES_BEHIND = 1, 4


def namespace_of(
    store: TokenStore, encoder: Encoder, dtype: str | None = None, *, hidden: bool = False
) -> TokenNamespace:
    """Opens the encoder's namespace, made if the store has none: in another dtype, hidden until it is published.

    Raises:
        StoreError: as `TokenStore.namespace`.
        InvalidRequest: as `storable`.
    """
    storable(encoder)
    return store.namespace(encoder.fingerprint, spec_of(encoder, dtype), create=True, filling=hidden)


def spec_of(encoder: Encoder, dtype: str | None = None) -> TokenSpec:
    """Makes the spec of an encoder's tokens, in its own dtype or another."""
    about = encoder.describe()
    return TokenSpec(about.embedding_tokens, about.hidden_size, dtype or about.embedding_dtype)


def run_encode_job(
    encoder: Encoder,
    namespace: TokenNamespace,
    rows: Iterable[ItemRow | BadRow],
    config: EncodeJobConfig = DEFAULTS,
    *,
    on_progress: Callable[[EncodeProgress], None] | None = None,
    on_bad_row: Callable[[BadRow], None] | None = None,
    owns: Callable[[str], bool] = lambda _: True,
    strays: Callable[[], int] = lambda: 0,
) -> EncodeReport:
    """Encodes the rows whose content hash is not stored yet. Both callbacks run in the caller's thread.

    Progress is told while no row comes, too; what `on_progress` raises ends the job.

    Only keys that the job `owns` are pruned, those of its shard, and none where bad rows of other shards, `strays`, may
    be of its items, or where they are more than `max_prune_share`: the report says so.

    Memory: a few windows of rows, and digests of all ids of the input (to tell duplicates, and for `prune`).

    Raises:
        PairingError: the namespace belongs to another encoder.
        StoreError, BackendError: the store or the encoder failed as a whole.
        InvalidRequest: `rows` broke off. In all cases what was stored stays, and a rerun continues.
    """
    if namespace.fingerprint != encoder.fingerprint:
        raise PairingError(
            f"encoder {encoder.fingerprint} cannot write to the namespace of encoder {namespace.fingerprint}"
        )
    with (
        StoredBehind(namespace.put_many, _BATCHES_BEHIND) as storing,
        closing(
            read_ahead(windows(rows, config.window_rows), _WINDOWS_AHEAD, lambda: job.tell_progress())
        ) as ahead,
    ):
        job = _Job(encoder, namespace, storing, config, on_progress, on_bad_row, owns, strays)
        for _, window in ahead:
            job.take(window)
        return job.finish()


@dataclass(slots=True)
class _Counts:
    rows_read: int = 0
    unchanged: int = 0
    truncated: int = 0
    bad_rows: int = 0
    deleted: int = 0
    bad_without_id: int = 0


class _Job:
    def __init__(
        self,
        encoder: Encoder,
        namespace: TokenNamespace,
        storing: StoredBehind[TokenEntry],
        config: EncodeJobConfig,
        on_progress: Callable[[EncodeProgress], None] | None,
        on_bad_row: Callable[[BadRow], None] | None,
        owns: Callable[[str], bool],
        strays: Callable[[], int],
    ) -> None:
        self._encoder = RowEncoder(
            encoder, config.truncation, config.max_failures_in_a_row, namespace.spec.numpy_dtype
        )
        self._namespace = namespace
        self._storing = storing
        self._config = config
        self._on_progress = on_progress
        self._on_bad_row = on_bad_row
        self._owns, self._strays = owns, strays
        self._generation = namespace.generation
        self._started_s = time.perf_counter()
        self._counts = _Counts()
        self._first_bad: list[BadRow] = []
        self._ids = KeySet()  # of usable rows
        self._bad_ids = KeySet()
        self._pool: list[ItemRow] = []  # changed rows of batches that are partly unchanged
        self._pool_chars = 0

    def take(self, window: Sequence[ItemRow | BadRow]) -> None:
        """Deals with the next rows of the input; some may stay in the pool."""
        self._counts.rows_read += len(window)
        usable = self._without_deleted(self._usable(window))
        changed = self._changed_ids(usable)
        for batch in length_batches(usable, self._config.batch_size):
            fresh = [row for row in batch if row.id in changed]
            if len(fresh) == len(batch):
                self._encode(batch)
            else:
                self._pool.extend(fresh)
                self._pool_chars += sum(map(row_chars, fresh))
        if len(self._pool) >= self._config.window_rows or self._pool_chars >= WINDOW_CHARS:
            self._empty_pool()
        self.tell_progress()

    def finish(self) -> EncodeReport:
        """Encodes the pool, prunes if asked, and reports."""
        self._empty_pool()
        self._storing.flush()
        if self._namespace.generation != self._generation:
            raise StoreError("another token store came into the place of the one that is filled: run again")
        self.tell_progress()
        pruned = self._prune() if self._config.prune else Pruned()
        counts = self._counts
        seconds = time.perf_counter() - self._started_s
        assert counts.rows_read == self._storing.stored + counts.unchanged + counts.deleted + counts.bad_rows
        return EncodeReport(
            rows_read=counts.rows_read,
            encoded=self._storing.stored,
            unchanged=counts.unchanged,
            truncated=counts.truncated,
            bad_rows=counts.bad_rows,
            first_bad_rows=tuple(self._first_bad),
            pruned=pruned.deleted,
            prune_refused=pruned.refused,
            seconds=seconds,
            deleted=counts.deleted,
            items_per_s=self._storing.stored / seconds if self._storing.stored else 0.0,
        )

    def _usable(self, window: Sequence[ItemRow | BadRow]) -> list[ItemRow]:
        usable: list[ItemRow] = []
        new = iter(self._ids.add([row.id for row in window if isinstance(row, ItemRow)]))
        for row in window:
            if isinstance(row, BadRow):
                self._bad(row)
            elif next(new):
                usable.append(row)
            else:
                self._bad(row.bad(f"id {row.id!r} came earlier in the input"))
        return usable

    def _without_deleted(self, rows: list[ItemRow]) -> list[ItemRow]:
        deleted = [row.id for row in rows if row.deleted]
        if not deleted:
            return rows
        for keys in chunks(deleted, _DELETE_BATCH):
            self._namespace.delete_many(keys)
        self._counts.deleted += len(deleted)
        return [row for row in rows if not row.deleted]

    def _changed_ids(self, rows: Sequence[ItemRow]) -> set[str]:
        changed: set[str] = set()
        keys = [row.id for row in rows]
        self._namespace.prolong(keys)  # first: what expires before the look is encoded anew
        stored = self._namespace.content_hashes(keys)
        for row, digest in zip(rows, stored, strict=True):
            if digest is None:  # nothing to compare with, and hashed once more when it is stored
                changed.add(row.id)
            elif digest == content_hash(row.text):
                self._counts.unchanged += 1
            elif self._config.truncation == "truncate" and digest == content_hash(row.text, truncated=True):
                self._counts.unchanged += 1
                self._counts.truncated += 1
            else:
                changed.add(row.id)
        return changed

    def _empty_pool(self) -> None:
        for batch in length_batches(self._pool, self._config.batch_size):
            self._encode(batch)
        self._pool.clear()
        self._pool_chars = 0

    def _encode(self, rows: Sequence[ItemRow]) -> None:
        batch = self._encoder.encode(rows)
        self._storing.put(
            [
                TokenEntry(
                    encoded.row.id,
                    encoded.tokens,
                    content_hash(encoded.row.text, truncated=encoded.truncated),
                )
                for encoded in batch.encoded
            ]
        )
        self._counts.truncated += sum(encoded.truncated for encoded in batch.encoded)
        for row in batch.bad:
            self._bad(row)
        self.tell_progress()

    def _bad(self, row: BadRow) -> None:
        self._counts.bad_rows += 1
        if row.id is None:
            self._counts.bad_without_id += 1
        elif self._config.prune:
            self._bad_ids.note(row.id)
        if len(self._first_bad) < self._config.max_bad_rows_kept:
            self._first_bad.append(row)
        if self._on_bad_row is not None:
            self._on_bad_row(row)

    def tell_progress(self) -> None:
        """Tells how far it is."""
        if self._on_progress is not None:
            stored, counts = self._storing.stored, self._counts
            self._on_progress(EncodeProgress(stored, counts.unchanged, counts.bad_rows, counts.deleted))

    def _prune(self) -> Pruned:
        return prune(
            self._namespace,
            (self._ids, self._bad_ids),
            self._config.max_prune_share,
            owns=self._owns,
            doubt=self._doubt(),
            waiting=self.tell_progress,
        )

    def _doubt(self) -> str:
        """Says why stored items may be the input's although it does not name them."""
        if unknown := self._counts.bad_without_id + self._strays():
            rows = counted(unknown, "bad row")
            return f"{rows} without a readable id may be of stored items"
        if self._storing.stored + self._counts.unchanged + self._counts.deleted == 0:
            return "the input has no usable row"
        return ""
