"""Stores by their locations: copies of all their encoders, and which kind a store is that is made."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from rankport.protos.errors import InvalidRequest
from rankport.protos.installed.extras import extras_named
from rankport.runtime.jobs.datasets import DATASET_FILE, DatasetFormat, dataset_content
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.copy_ends import (
    CopySource,
    CopyTarget,
    NamespaceSource,
    NamespaceTarget,
    snapshot_target,
    spec_as,
)
from rankport.runtime.store.copying import CopyProgress, CopyReport, copy_tokens
from rankport.runtime.store.lmdb_store.compaction import Compaction, compact_store
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.snapshot.store import SnapshotStore
from rankport.runtime.store.token_spec import TokenSpec

StoreKind = Literal["lmdb", "snapshot", "dataset", "arrow", "lance"]
"""Kind of what is made: a store, or a dataset in Parquet, Arrow or Lance."""

_TargetKind = StoreKind | Literal["written"]
_NAMED: dict[str, StoreKind] = {
    ".snapshot": "snapshot",
    ".dataset": "dataset",
    ".parquet": "dataset",
    ".arrow": "arrow",
    ".lance": "lance",
}


def copy_store(
    source: str,
    target: str,
    encoders: Sequence[str] | None = None,
    kind: StoreKind | None = None,
    dtype: str | None = None,
    *,
    frozen: bool = False,
    on_progress: Callable[[CopyProgress], None] = lambda _: None,
) -> dict[str, CopyReport]:
    """Copies the tokens of encoders, all that are published if none is named, of a store or dataset; a report of each.

    Raises:
        InvalidRequest: both are one store, or the target is of another kind than asked for.
        StoreError: a store failed, or has no tokens of an encoder.
    """
    if os.path.realpath(source) == os.path.realpath(target):
        raise InvalidRequest(f"{shown(source)} and {shown(target)} are one store: give another to copy to")
    target_kind = _kind_of(target, kind)
    reports = {}
    with ExitStack() as opened:
        for copied in _sources(source, encoders, frozen, opened):
            spec = spec_as(copied.spec, dtype)
            with _opened(target, copied, spec, target_kind) as end:
                reports[copied.fingerprint] = copy_tokens(copied, end, on_progress)
    return reports


def _sources(
    location: str, encoders: Sequence[str] | None, frozen: bool, opened: ExitStack
) -> Sequence[CopySource]:
    """Opens what is to be copied: of a dataset, or of a store."""
    if (Path(location) / DATASET_FILE).is_file():
        from rankport.runtime.jobs.datasets.source import DatasetSource

        dataset = DatasetSource(Path(location))
        if encoders and list(encoders) != [dataset.fingerprint]:
            raise InvalidRequest(f"dataset {location} has the tokens of encoder {dataset.fingerprint} alone")
        return [dataset]
    dataset_content(Path(location))
    tokens = opened.enter_context(open_store(location, read_only=True, frozen=frozen))
    names = encoders or list(tokens.fingerprints())
    if not names:
        raise InvalidRequest(f"{tokens.contents()}: there is nothing to copy")
    origin = tokens.location if _is_url(location) else os.path.realpath(location)
    return [NamespaceSource(tokens.namespace(name), origin) for name in names]


def shown(location: str) -> str:
    """Words a location for messages: a URL without name and password."""
    if not _is_url(location):
        return location
    parts = urlsplit(location)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _is_url(location: str) -> bool:
    return "://" in location


def compact(location: str) -> Compaction:
    """Compacts a store in LMDB. Raises `InvalidRequest` for one of another kind, and as `compact_store`."""
    if _is_url(location) or SnapshotStore.is_at(Path(location)):
        raise InvalidRequest(f"{shown(location)} is no store in LMDB: others have no room to give back")
    return compact_store(Path(location))


@contextmanager
def open_to_drop(location: str) -> Iterator[TokenStore]:
    """Opens a store of which tokens are to be dropped: a snapshot too, whose file then goes."""
    snapshot = SnapshotStore.is_at(Path(location))
    with open_store(location, read_only=snapshot) as store:
        yield store


@contextmanager
def _opened(target: str, source: CopySource, spec: TokenSpec, kind: _TargetKind) -> Iterator[CopyTarget]:
    match kind:
        case "snapshot":
            yield snapshot_target(Path(target), source, spec)
        case "dataset" | "arrow" | "lance":
            with extras_named(f"{target}, a dataset,", "lance" if kind == "lance" else "parquet"):
                from rankport.runtime.jobs.datasets.target import DatasetTarget

            part_format: DatasetFormat = "parquet" if kind == "dataset" else kind
            yield DatasetTarget(Path(target), source, spec, part_format)
        case _:
            with open_store(target, create=True) as store:
                yield NamespaceTarget(store, source.fingerprint, spec)


def _kind_of(target: str, kind: StoreKind | None) -> _TargetKind:
    """Returns the kind of a store that is there, of one that is asked for, or by the end of its name."""
    if _is_url(target):
        if kind is not None:
            raise InvalidRequest(f"{shown(target)} is a store in Redis: leave --to {kind} out")
        return "written"
    path = Path(target)
    stands: StoreKind | None = None
    if SnapshotStore.is_at(path):
        stands = "snapshot"
    elif (path / DATASET_FILE).exists():
        stands = "dataset"
    elif (path / "data.mdb").exists():
        stands = "lmdb"
    if stands == "dataset":
        raise InvalidRequest(f"{target} is there already: a dataset is made as a whole, give another folder")
    if stands and kind and stands != kind:
        raise InvalidRequest(f"{target} is a store of kind {stands}, not {kind}: give another directory")
    return stands or kind or _NAMED.get(path.suffix, "lmdb")
