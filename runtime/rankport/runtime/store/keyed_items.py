"""Items given by key: which store a mix ranker may read, and the embedding tokens of a request's keys."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, NotFound, PairingError
from rankport.protos.types import Item, Key, OnMissing
from rankport.runtime.backends.contract import Resident
from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.prompt.encoder import ItemInput
from rankport.runtime.store.device_catalogue import ResidentTokens
from rankport.runtime.store.store import TokenNamespace, TokenStore


def paired_tokens(store: TokenStore, manifest: ManifestDraft) -> TokenNamespace | None:
    """The tokens of the encoder that a mix ranker was trained with; None for a ranker of texts.

    Raises:
        PairingError: the store lacks that encoder's tokens, or the bundle names none; the message has the
            fingerprints.
    """
    if manifest.embedding is None:
        return None
    held = store.fingerprints()
    has = f"store {store.path} has tokens of {', '.join(held) or 'no encoder'}"
    if manifest.pairing is None:
        raise PairingError(
            f"ranker {manifest.name!r} names no encoder it was trained with, so no stored tokens are safe; {has}: "
            f"export it with its encoder, or load it without a store"
        )
    wanted = manifest.pairing.encoder_fingerprint
    if wanted not in held:
        raise PairingError(
            f"ranker {manifest.name!r} is paired with encoder {wanted}; {has}: "
            f"run `rankport encode` with the paired encoder"
        )
    spec, takes = held[wanted], manifest.embedding
    if (spec.tokens, spec.hidden_size) != (takes.tokens, takes.hidden_size):
        raise PairingError(
            f"ranker {manifest.name!r} takes embedding tokens [{takes.tokens}, {takes.hidden_size}], and store "
            f"{store.path} has [{spec.tokens}, {spec.hidden_size}] of its encoder {wanted}: export the ranker anew"
        )
    return store.namespace(wanted)


class KeyedItems:
    """Puts embedding tokens in the place of keys. Any thread may call it."""

    def __init__(
        self,
        manifest: ManifestDraft,
        tokens: TokenNamespace | None,
        resident: ResidentTokens | None = None,
    ) -> None:
        """`resident`: some of the tokens that are in device memory already."""
        self._embedding = manifest.embedding
        self._tokens = tokens
        self._resident = resident

    @property
    def readable(self) -> bool:
        """Whether there is a store to read."""
        return self._tokens is not None

    def resolve(self, items: Sequence[Item], on_missing: OnMissing) -> tuple[list[ItemInput], dict[int, str]]:
        """The items with tokens for keys, and why some have none, by index; those hold zeros. One batched read.

        Raises:
            InvalidRequest: a key, but the ranker takes none.
            NotFound: a key the store lacks, with `on_missing` "fail".
            StoreError: the store cannot be read.
        """
        keys = {index: item.id for index, item in enumerate(items) if isinstance(item, Key)}
        if not keys:
            return cast(list[ItemInput], list(items)), {}
        found = self._read(keys)
        missing = {index: self._missing(keys[index]) for index, tokens in found.items() if tokens is None}
        if missing and on_missing == "fail":
            first, message = next(iter(missing.items()))
            more = f" ({len(missing)} such items of {len(items)})" if len(missing) > 1 else ""
            raise NotFound(
                f"item {first}: {message}{more}; on_missing 'skip' (--on-missing skip) scores the others"
            )
        inputs: list[ItemInput] = []
        for index, item in enumerate(items):
            if isinstance(item, Key):
                tokens = found[index]
                inputs.append(self._zeros() if tokens is None else tokens)
            else:
                inputs.append(item)
        return inputs, missing

    def _read(self, keys: dict[int, str]) -> dict[int, NDArray[np.floating] | Resident | None]:
        index, key = next(iter(keys.items()))
        if self._embedding is None:
            raise InvalidRequest(f"item {index} is the key {key!r}: this ranker takes text or token ids only")
        if self._tokens is None:
            raise InvalidRequest(
                f"item {index} is the key {key!r}, but the ranker was loaded without a token store: "
                f"give it one (store, --store), or embedding tokens"
            )
        found: dict[int, NDArray[np.floating] | Resident | None] = {}
        if self._resident is not None:
            found = dict(zip(keys, self._resident.find(list(keys.values())), strict=True))
        rest = [place for place in keys if found.get(place) is None]
        read = self._tokens.get_many([keys[place] for place in rest]) if rest else []
        return {**found, **dict(zip(rest, read, strict=True))}

    def _missing(self, key: str) -> str:
        assert self._tokens is not None
        return (
            f"no tokens of key {key!r} under encoder {self._tokens.fingerprint}: run `rankport encode` for it"
        )

    def _zeros(self) -> NDArray[np.floating]:
        assert self._embedding is not None
        return np.zeros((self._embedding.tokens, self._embedding.hidden_size), np.float32)
