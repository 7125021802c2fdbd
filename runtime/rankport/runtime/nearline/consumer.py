"""`NearlineConsumer`: takes changes of items from a stream, encodes them in small batches, and writes their tokens.

Owns the order of the steps. A change is acknowledged once its tokens are stored, so one that is cut short at any moment
comes again: to this consumer, or to another that claims it. Then its version or its content says whether it is done.

An item is written by one consumer at a time, which holds its lease; the newest version wins in whichever order changes
come, and of a deleted item the version stays. What fails for good is a dead letter with its reason; a store, stream or
encoder that cannot be reached is waited for.
"""

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rankport.protos.errors import InvalidRequest, Overloaded, StoreError, Unavailable
from rankport.protos.wording import counted
from rankport.runtime.jobs.row_encoder import Encoder, RowEncoder, content_hash
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.nearline.changes import Change, Entry, read_change
from rankport.runtime.nearline.config import CHARACTERS_PER_TOKEN, NearlineConfig
from rankport.runtime.nearline.stream import ChangeStream
from rankport.runtime.store.contract import TokenEntry, TokenNamespace
from rankport.runtime.store.entries import Fence, LateWriteError

_log = logging.getLogger(__name__)
_IDLE_S = 0.5  # waited for new changes before looking at others'
_BUSY_S = 0.05  # before another look at items that another consumer works on
_TROUBLE_S = 0.5
_MAX_FAILURES_IN_A_ROW = 32

Outcome = Literal["encoded", "unchanged", "deleted", "stale"]


@dataclass(frozen=True, slots=True)
class NearlineCounts:
    """Counters of changes since the start."""

    encoded: int = 0
    unchanged: int = 0  # the store has their very content
    deleted: int = 0
    stale: int = 0  # a version that is done, or older than one
    dead_letters: int = 0
    batches: int = 0
    freshness_s_sum: float = (
        0.0  # from the entry in the stream to the tokens in the store, of all that are done
    )

    @property
    def in_words(self) -> str:
        """Says what became of the changes, for people."""
        return (
            f"{self.encoded} encoded, {self.unchanged} unchanged, {self.deleted} deleted, {self.stale} stale, "
            f"{counted(self.dead_letters, 'dead letter')}"
        )

    @property
    def done(self) -> int:
        """Changes that are done."""
        return self.encoded + self.unchanged + self.deleted + self.stale


class NearlineConsumer:
    """One consumer of a group; as many as wanted run side by side."""

    def __init__(
        self, encoder: Encoder, namespace: TokenNamespace, stream: ChangeStream, config: NearlineConfig
    ) -> None:
        dtype = namespace.spec.numpy_dtype
        self._rows = RowEncoder(encoder, config.truncation, _MAX_FAILURES_IN_A_ROW, dtype)
        self._namespace, self._stream, self._config = namespace, stream, config
        self._open: dict[str, Entry] = {}  # delivered here, and not done
        self._taken_over: set[str] = set()  # items that another one, whose time was up, may still write
        self._claimed_s = float("-inf")
        self._stopped = threading.Event()
        self.counts = NearlineCounts()
        self.trouble = ""  # what is waited for now

    def stop(self) -> None:
        """Has `run` return after the batch that it is at. Any thread, or a signal's handler, may call it."""
        self._stopped.set()

    def run(self) -> None:
        """Consumes until `stop`.

        Raises `BackendError` where the encoder is broken, `StoreError` where its store was replaced by another.
        """
        grouped = False
        while not self._stopped.is_set():
            try:
                if not grouped:
                    self._stream.ensure_group()
                    grouped = True
                self.step()
                self._set_trouble("")
            except (StoreError, Unavailable, Overloaded) as error:
                if isinstance(error, StoreError) and error.replaced:
                    raise
                grouped = False
                self._set_trouble(str(error))
                self._stopped.wait(_TROUBLE_S)

    def step(self) -> None:
        """Does one batch of what there is, or waits a moment for something."""
        for entry in self._claimed():
            if entry.deliveries > self._config.max_tries:
                self._bury(entry, None, f"delivered {entry.deliveries - 1} times, and never done")
            else:
                self._do([entry])  # alone: it may be what ended its consumer
        self._gather()
        self._do(self._batch())

    def _claimed(self) -> list[Entry]:
        """Takes over what others left, now and then, and only while all that is needed can be reached."""
        now = time.monotonic()
        if now - self._claimed_s < self._config.claim_after_s / 4 or self.trouble:
            return []
        if not self._namespace.alive:
            return []
        self._claimed_s = now
        found = self._stream.claim(self._config.max_batch_items, self._config.claim_after_s, self._open)
        self._take(found)
        return found

    def _gather(self) -> None:
        """Reads new changes until a batch is full, or its first one waited long enough."""
        room = self._room()
        if room > 0:
            self._take(self._stream.read(room, _BUSY_S if self._open else _IDLE_S))
        until = time.monotonic() + self._config.max_wait_s
        while self._open and (room := self._room()) > 0 and (left := until - time.monotonic()) > 0:
            if self._stopped.is_set():
                return
            self._take(self._stream.read(room, min(left, _IDLE_S)))

    def _take(self, entries: Iterable[Entry]) -> None:
        self._open.update((entry.id, entry) for entry in entries)

    def _room(self) -> int:
        """Counts the entries that the next batch has room for."""
        batch = self._batch()
        return self._config.max_batch_items - len(batch) if len(batch) == len(self._open) else 0

    def _batch(self) -> list[Entry]:
        """Cuts a batch from the open entries, oldest first: at least one."""
        batch: list[Entry] = []
        tokens = 0
        for entry in self._open.values():
            tokens += -(-len(entry.fields.get(b"text", b"")) // CHARACTERS_PER_TOKEN)
            if batch and (
                tokens > self._config.max_batch_tokens or len(batch) == self._config.max_batch_items
            ):
                break
            batch.append(entry)
        return batch

    def _do(self, entries: Sequence[Entry]) -> None:
        """Does changes in a batch. What another consumer works on, and what an error cut short, stays open."""
        changes = self._newest(entries)
        standings = self._stream.lease(changes, self._config.claim_after_s)
        judged = list(zip(changes, standings, strict=True))
        self._finish("stale", [change for change, standing in judged if standing == "stale"])
        self._taken_over |= {change.item for change, standing in judged if standing == "taken over"}
        mine = [change for change, standing in judged if standing in ("mine", "taken over")]
        deleted = [change for change in mine if change.text is None]
        puts = [change for change in mine if change.text is not None]
        changed, unchanged = self._compared([put for put in puts if put.item not in self._taken_over])
        changed += [put for put in puts if put.item in self._taken_over]  # to stand behind what comes late
        tokens = self._encoded(changed)
        writing = [*tokens, *unchanged, *deleted]
        fence = self._namespace.fence([change.item for change in writing], self._config.claim_after_s)
        held = self._held(writing)  # for longer than the fence lets write
        try:
            self._put({change: entry for change, entry in tokens.items() if change in held}, fence)
            self._finish("unchanged", [change for change in unchanged if change in held])
            self._delete([change for change in deleted if change in held], fence)
        except LateWriteError:
            _log.warning(
                "a batch took over %g s to be written, and is done again", self._config.claim_after_s
            )
        if mine:
            self.counts = replace(self.counts, batches=self.counts.batches + 1)

    def _newest(self, entries: Sequence[Entry]) -> list[Change]:
        """Reads entries, the newest change of each item; older ones wait until that is done."""
        newest: dict[str, Change] = {}
        for entry in entries:
            try:
                change = read_change(entry)
            except InvalidRequest as error:
                self._bury(entry, None, str(error))
                continue
            known = newest.get(change.item)
            if known is None or change.version > known.version:
                newest[change.item] = change
        return list(newest.values())

    def _compared(self, puts: Sequence[Change]) -> tuple[list[Change], list[Change]]:
        """Parts changes whose text is not what the store has from those whose text is."""
        parts: tuple[list[Change], list[Change]] = [], []
        items = [change.item for change in puts]
        self._namespace.prolong(items)  # first: what expires before the look is encoded anew
        stored = self._namespace.content_hashes(items) if puts else []
        for change, digest in zip(puts, stored, strict=True):
            text = change.text or ""
            known = [content_hash(text)]
            if self._config.truncation == "truncate":
                known.append(content_hash(text, truncated=True))
            parts[digest in known].append(change)
        return parts

    def _encoded(self, puts: Sequence[Change]) -> dict[Change, TokenEntry]:
        """Encodes changes, those of alike length beside each other; what the encoder refuses is a dead letter.

        So is what it fails on in the last of its tries: a device may do better another time.
        """
        if not puts:
            return {}
        by_item = {change.item: change for change in puts}
        rows = [ItemRow(line, change.item, change.text or "") for line, change in enumerate(puts, 1)]
        batch = self._rows.encode(sorted(rows, key=lambda row: len(row.text)))
        failed = {row.id for row in batch.failed}
        for row in batch.bad:
            entry = by_item[row.id or ""].entry
            if row.id in failed and entry.deliveries < self._config.max_tries:
                _log.warning("entry %s is tried again, the encoder failed: %s", entry.id, row.reason)
                self._open.pop(entry.id)  # it comes again, to this consumer or another
            else:
                self._bury(entry, row.id, row.reason)
        return {
            by_item[each.row.id]: TokenEntry(
                each.row.id, each.tokens, content_hash(each.row.text, truncated=each.truncated)
            )
            for each in batch.encoded
        }

    def _held(self, changes: Sequence[Change]) -> set[Change]:
        """Looks whether their items were this consumer's all the time, right before they are written."""
        standings = self._stream.lease(changes, self._config.claim_after_s, kept=True)
        return {change for change, standing in zip(changes, standings, strict=True) if standing == "mine"}

    def _put(self, tokens: Mapping[Change, TokenEntry], fence: Fence) -> None:
        if tokens:
            self._namespace.put_many(list(tokens.values()), fence=fence)
            self._finish("encoded", list(tokens))

    def _delete(self, changes: Sequence[Change], fence: Fence) -> None:
        if changes:
            self._namespace.delete_many([change.item for change in changes], fence=fence)
            self._finish("deleted", changes)

    def _finish(self, outcome: Outcome, changes: Sequence[Change]) -> None:
        finished = self._stream.finish(changes)
        now = time.time()
        for change in finished:
            self._open.pop(change.entry.id, None)
            self._taken_over.discard(change.item)
        fresh_s = sum(max(0.0, now - change.entry.written_ms / 1000) for change in finished)
        self._count(outcome, len(finished))
        self.counts = replace(self.counts, freshness_s_sum=self.counts.freshness_s_sum + fresh_s)

    def _bury(self, entry: Entry, item: str | None, reason: str) -> None:
        _log.warning("entry %s of stream %s is a dead letter: %s", entry.id, self._config.stream, reason)
        self._stream.bury(entry, item, reason)
        self._open.pop(entry.id, None)
        self._count("dead_letters", 1)

    def _count(self, name: Outcome | Literal["dead_letters"], more: int) -> None:
        self.counts = replace(self.counts, **{name: getattr(self.counts, name) + more})

    def _set_trouble(self, trouble: str) -> None:
        if trouble and not self.trouble:
            _log.error("%s", trouble)
        elif self.trouble and not trouble:
            _log.info("changes of stream %s go on", self._config.stream)
        self.trouble = trouble
