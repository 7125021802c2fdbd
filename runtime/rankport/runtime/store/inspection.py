"""Facts of what a store holds, read or checked: encoders, counts, bytes, ages, corrupt values."""

from dataclasses import dataclass
from datetime import datetime

from rankport.protos.errors import StoreError
from rankport.runtime.store.contract import TokenNamespace, TokenStore

_KEPT_KEYS = 10


@dataclass(frozen=True, slots=True)
class CheckedTokens:
    """Result of reading all tokens of an encoder."""

    readable: int
    unreadable: int
    unreadable_keys: tuple[str, ...]  # the first of them
    problem: str  # of the store as a whole, which ended the check; else ""
    oldest: datetime | None  # write, UTC; None where nothing can be read
    newest: datetime | None

    @property
    def passed(self) -> bool:
        """True where all can be read."""
        return not self.unreadable and not self.problem


@dataclass(frozen=True, slots=True)
class StoredEncoder:
    """Tokens of an encoder in a store."""

    fingerprint: str
    published: bool
    tokens: int  # k
    hidden_size: int
    dtype: str
    items: int
    item_bytes: int  # of an item's tokens
    checked: CheckedTokens | None  # None where only counts were asked for


def inspect_store(store: TokenStore, *, check: bool) -> list[StoredEncoder]:
    """Lists what a store holds; with `check`, all of it is read. Raises `StoreError` where it cannot be opened."""
    published, hidden = store.fingerprints(), store.filling()
    encoders = []
    for fingerprint, spec in {**published, **hidden}.items():
        namespace = store.namespace(fingerprint, filling=True)
        encoders.append(
            StoredEncoder(
                fingerprint=fingerprint,
                published=fingerprint in published,
                tokens=spec.tokens,
                hidden_size=spec.hidden_size,
                dtype=spec.dtype,
                items=len(namespace),
                item_bytes=spec.nbytes,
                checked=check_tokens(namespace) if check else None,
            )
        )
    return encoders


def check_tokens(namespace: TokenNamespace) -> CheckedTokens:
    """Reads all tokens of an encoder, with their sums."""
    check, version = _Check(namespace), namespace.version()
    problem = ""
    try:
        for page in namespace.pages():
            check.take([entry.key for entry in page])
    except StoreError as error:
        problem = str(error)
    still = not problem and namespace.version() == version  # else items may have come or gone meanwhile
    missing = len(namespace) - check.readable - len(check.bad) if still else 0
    return CheckedTokens(
        readable=check.readable,
        unreadable=len(check.bad) + max(0, missing),  # keys that are corrupt themselves are on no page
        unreadable_keys=tuple(check.bad[:_KEPT_KEYS]),
        problem=problem,
        oldest=check.oldest,
        newest=check.newest,
    )


class _Check:
    def __init__(self, namespace: TokenNamespace) -> None:
        self._namespace = namespace
        self.readable = 0
        self.bad: list[str] = []
        self.oldest: datetime | None = None
        self.newest: datetime | None = None

    def take(self, keys: list[str]) -> None:
        places = self._namespace.read(keys, skip_corrupt=True).places.tolist()
        good = [keys[place] for place in places]
        self.bad += filter(self._is_bad, sorted(set(keys) - set(good)))
        self.readable += len(good)
        times = [info.written_at for info in self._namespace.info_many(good) if info is not None]
        if times:
            self.oldest = min(times if self.oldest is None else [self.oldest, *times])
            self.newest = max(times if self.newest is None else [self.newest, *times])

    def _is_bad(self, key: str) -> bool:
        """Says whether a value is there and cannot be read: it may have been deleted meanwhile."""
        try:
            self._namespace.read([key])
        except StoreError:
            return True
        return False
