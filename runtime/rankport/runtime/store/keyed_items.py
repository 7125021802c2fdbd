"""Items given by key: which store a ranker may read, and the embedding tokens of a request's keys."""

from collections.abc import Iterator, Sequence, Set
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rankport.protos.columns import Column, ItemColumns
from rankport.protos.errors import InvalidRequest, NotFound, PairingError, RankportError
from rankport.protos.types import OnMissing
from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.prompt.encoded import NO_KEYED_TOKENS, KeyedTokens
from rankport.runtime.store.contract import TokenNamespace, TokenStore
from rankport.runtime.store.device_catalogue import ResidentTokens
from rankport.runtime.store.hot_tokens import HotTokens, StoreCounts
from rankport.runtime.store.named_items import NamedItems
from rankport.runtime.store.refusals import not_published


def paired_tokens(store: TokenStore, manifest: ManifestDraft) -> TokenNamespace | None:
    """Returns the tokens of the encoder that a ranker, or a ranker of sets, was trained with; None for one of texts.

    Raises:
        PairingError: the store lacks that encoder's tokens, or the bundle names none; the message has the
            fingerprints.
    """
    if manifest.embedding is None and manifest.pairing is None:
        return None
    held = store.fingerprints()
    has = f"store {store.location} has tokens of {', '.join(held) or 'no encoder'}"
    if manifest.pairing is None:
        raise PairingError(
            f"ranker {manifest.name!r} names no encoder it was trained with, so no stored tokens are safe; {has}: "
            f"export it with its encoder, or load it without a store"
        )
    wanted = manifest.pairing.encoder_fingerprint
    if wanted in store.filling():
        raise PairingError(f"ranker {manifest.name!r}: {not_published(wanted, store.location)}")
    if wanted not in held:
        raise PairingError(
            f"ranker {manifest.name!r} is paired with encoder {wanted}; {has}: "
            f"run `rankport encode` with the paired encoder"
        )
    spec, takes = held[wanted], manifest.embedding
    if takes is not None and (spec.tokens, spec.hidden_size) != (takes.tokens, takes.hidden_size):
        raise PairingError(
            f"ranker {manifest.name!r} takes embedding tokens [{takes.tokens}, {takes.hidden_size}], and store "
            f"{store.location} has [{spec.tokens}, {spec.hidden_size}] of its encoder {wanted}: export the ranker anew"
        )
    return store.namespace(wanted)


class KeyedItems:
    """Finds the embedding tokens of keys. Any thread may call it."""

    def __init__(
        self,
        manifest: ManifestDraft,
        tokens: TokenNamespace | None,
        resident: ResidentTokens | NamedItems | None = None,
        host_bytes: int = 0,
    ) -> None:
        """Takes `resident`, some of the tokens, that are in device memory already; keeps others in host memory."""
        self._embedding = manifest.embedding
        self._tokens = None if tokens is None else HotTokens(tokens, host_bytes)
        self._resident = resident
        self._device_keys = 0  # of requests that were answered; threads that add at once may lose one of them

    @property
    def tokens(self) -> HotTokens | None:
        """Tokens of the store, if there is one."""
        return self._tokens

    @property
    def readable(self) -> bool:
        """True where there is a store to read."""
        return self._tokens is not None

    @property
    def alive(self) -> bool:
        """False where there is a store, and it cannot be read now."""
        return self._tokens is None or self._tokens.alive

    def counts(self) -> StoreCounts | None:
        """Returns the counters of what was read for its keys; None without a store."""
        if self._tokens is None:
            return None
        resident = 0 if self._resident is None else len(self._resident)
        return replace(self._tokens.counts(), device_keys=self._device_keys, device_kept=resident)

    def resolve(
        self,
        keys: Column[Sequence[str]] | None,
        on_missing: OnMissing,
        items: int,
        *,
        resident: bool = True,
        absent: Set[str] = frozenset(),
    ) -> KeyedTokens:
        """Reads the tokens of a request's keys, and why some have none, at once; the request has so many `items`.

        Those that are `resident` on a device are not read, unless all are to be, or the device's process told that they
        are `absent`.

        Raises:
            InvalidRequest: a key, but the ranker takes none.
            NotFound: a key the store lacks, with `on_missing` "fail".
            StoreError: the store cannot be read.
        """
        if keys is None or not len(keys.places):
            return NO_KEYED_TOKENS
        tokens = self._readable(keys)
        if on_missing == "encode":
            raise InvalidRequest(
                "on_missing is 'encode': a server does that, with the paired encoder that it serves beside; in this "
                "process give 'skip', encode the items that are not_found, and score their tokens"
            )
        found, places = None, keys.places
        if resident and isinstance(self._resident, NamedItems):
            found = self._resident.find(keys.values, keys.places, absent)
        elif resident and self._resident is not None:
            found = self._resident.find(keys.values, keys.places)
        if found is not None:
            places = np.setdiff1d(places, found.places, assume_unique=True)
        if len(places) == len(keys.places):
            left = keys.values
        else:
            left = [keys.values[index] for index in np.searchsorted(keys.places, places)]
        stored = tokens.read(left)
        missing = self._missing(left, places, stored.places) if len(stored.places) < len(places) else {}
        if missing and on_missing == "fail":
            if found is not None and found.keys is not None:  # some of which may be missing too
                return self.resolve(keys, on_missing, items, resident=False)
            first, message = next(iter(missing.items()))
            more = f" ({len(missing)} such items of {items})" if len(missing) > 1 else ""
            raise NotFound(
                f"item {first}: {message}{more}; on_missing 'skip' (--on-missing skip) scores the others"
            )
        return KeyedTokens(Column(stored.tokens, places[stored.places]), found, missing)

    def count_on_device(self, keys: int) -> None:
        """Counts keys of a request that was answered whose tokens were on the device."""
        self._device_keys += keys

    @contextmanager
    def resolved(
        self,
        items: ItemColumns,
        on_missing: OnMissing,
        *,
        resident: bool = True,
        absent: Set[str] = frozenset(),
    ) -> Iterator[KeyedTokens]:
        """Resolves a request's keys, as `resolve`, for a block that encodes its items.

        Raises as `resolve`, and its errors come before those of the block, also of keys that are only named.
        """
        keyed = self.resolve(items.keys, on_missing, items.count, resident=resident, absent=absent)
        try:
            yield keyed
        except RankportError:
            if keyed.resident is not None and keyed.resident.keys is not None:
                self.resolve(items.keys, on_missing, items.count, resident=False)
            raise

    @property
    def executor(self) -> Executor:
        """Threads for requests that are sent again because of keys that were named."""
        return self._named.executor

    def told_absent(self, keys: Set[str]) -> None:
        """Notes keys that were named to another process, and are not on its device."""
        self._named.learn_absent(keys)

    @property
    def _named(self) -> NamedItems:
        assert isinstance(self._resident, NamedItems), "no keys are named to another process"
        return self._resident

    def _readable(self, keys: Column[Sequence[str]]) -> HotTokens:
        index, key = int(keys.places[0]), keys.values[0]
        if self._embedding is None:
            raise InvalidRequest(f"item {index} is the key {key!r}: this ranker takes text or token ids only")
        if self._tokens is None:
            raise InvalidRequest(
                f"item {index} is the key {key!r}, but the ranker was loaded without a token store: "
                f"give it one (store, --store), or embedding tokens"
            )
        return self._tokens

    def _missing(
        self, keys: Sequence[str], places: NDArray[np.int64], there: NDArray[np.int64]
    ) -> dict[int, str]:
        """Says of the keys that are not there why, by their places in the request."""
        assert self._tokens is not None
        encoder = self._tokens.fingerprint
        absent = np.setdiff1d(np.arange(len(keys)), there, assume_unique=True)
        return {
            int(
                places[index]
            ): f"no tokens of key {keys[index]!r} under encoder {encoder}: run `rankport encode` for it"
            for index in absent.tolist()
        }
