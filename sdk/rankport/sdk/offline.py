"""Offline work of a release as one call each: `build` and `encode`, as the commands of those names do it."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import ModelDescription, Side, Truncation
from rankport.runtime.backends.tensorrt.build import BuildTarget, BuiltPlan, build_plans
from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.profile_limits import ProfileLimits
from rankport.runtime.bundle.fingerprint import side_fingerprint
from rankport.runtime.config import Device, engine_config
from rankport.runtime.jobs.config import EncodeJobConfig, FileColumns, encode_job_config
from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.encode_report import EncodeProgress, EncodeReport
from rankport.runtime.jobs.row_encoder import Encoder
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.jobs.rows.sources import ItemSources
from rankport.runtime.jobs.storable import require_side, require_stored, storable
from rankport.runtime.kinds.capabilities import OfflineEncoder
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.table import load_encoder, open_bundle
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.options import from_keywords, refuse_unknown
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.opening import open_store
from rankport.sdk.client import Client

StrPath = str | os.PathLike[str]


def build(
    bundle: StrPath,
    target: str,
    *,
    force: bool = False,
    allow_unsupported_gpu: bool = False,
    on_progress: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> list[BuiltPlan]:
    """Builds TensorRT plans from a bundle's graphs, into the bundle. What is there and still fits stays.

    >>> build("ranker.bundle", "tensorrt-rtx:sm89", max_batch_tokens=8192)

    `options` are those of `rankport build`: fields of `ProfileLimits` and `BuildOptions`.

    Raises:
        InvalidRequest: an option or a target that there is not, or that this machine cannot build for.
        BackendError: TensorRT is not installed.
        BundleError: a graph cannot be built.
    """
    limits, choices = from_keywords(ProfileLimits, options), from_keywords(BuildOptions, options)
    refuse_unknown("build", options, ProfileLimits, BuildOptions)
    return build_plans(
        open_bundle(bundle),
        BuildTarget.parse(target),
        options=choices,
        limits=limits,
        force=force,
        allow_unsupported_gpu=allow_unsupported_gpu,
        on_progress=on_progress,
    )


def encode(
    encoder: StrPath | ItemEncoder | Towers | Client,
    items: StrPath | Sequence[StrPath],
    store: StrPath | TokenStore,
    *,
    device: Device = "cpu",
    device_id: int = 0,
    side: Side | None = None,
    token_dtype: str | None = None,
    on_progress: Callable[[EncodeProgress], None] | None = None,
    on_bad_row: Callable[[BadRow], None] | None = None,
    **options: Any,
) -> EncodeReport:
    """Computes the embedding tokens of a catalogue and keeps them for serving. What is stored already is skipped.

    >>> encode("encoder.bundle", "items.csv", "tokens.lmdb", template="{title}. {description:200}")

    `items` are files, folders, patterns or URLs.

    `encoder` is a bundle of an item encoder or of two towers, whose items are represented, loaded on `device`; or one
    that is loaded here or served. With `side` "query" the query tower represents the texts, apart from items. `options`
    are those of `rankport encode`: fields of `FileColumns` and `EncodeJobConfig`. Tokens are kept in `token_dtype`
    (float16, float32, int8), or as the encoder makes them.

    Raises:
        InvalidRequest: an option, format or column that there is not, or a file that broke off.
        NotFound: no such file.
        PairingError: a served name came to mean another encoder meanwhile.
        BundleError, StoreError, BackendError: bundle, store or encoder failed as a whole; a rerun continues.
    """
    columns = from_keywords(FileColumns, options)
    several = [items] if isinstance(items, str | os.PathLike) else list(items)
    given = {name: options.pop(name) for name in list(options) if name in EncodeJobConfig.__slots__}
    refuse_unknown("encode", options, FileColumns, EncodeJobConfig)
    config = encode_job_config(device, **given)
    with ExitStack() as opened:
        sources = opened.enter_context(ItemSources.open([os.fspath(each) for each in several], columns))
        if not isinstance(store, TokenStore) and "://" in str(store):  # told before a model is loaded
            store = opened.enter_context(open_store(store, create=True))
        source: Encoder
        if isinstance(encoder, Client):
            source = _ServedEncoder(encoder, side)
        elif isinstance(encoder, ItemEncoder | Towers):
            source = of_side(encoder, side)
        else:
            engine = engine_config(device, device_ids=(device_id,))
            source = of_side(opened.enter_context(load_encoder(encoder, engine)), side)
        storable(source)
        if not isinstance(store, TokenStore):
            store = opened.enter_context(open_store(store, create=True))
        rows = sources.rows()
        return run_encode_job(
            source,
            namespace_of(store, source, token_dtype),
            rows,
            config,
            on_progress=on_progress,
            on_bad_row=on_bad_row,
            owns=sources.owns,
            strays=lambda: rows.strays,
        )


def of_side(encoder: OfflineEncoder | ItemEncoder | Towers, side: Side | None) -> Encoder:
    """Gives the side of an encoder that reads texts; its items are what it makes without a side.

    Raises InvalidRequest for a side of what has only one, or one that there is not.
    """
    if side not in (None, *get_args(Side)):
        raise InvalidRequest(f"side is {side!r}: give query or item")
    if side is None:
        return encoder
    if not isinstance(encoder, Towers):
        require_side(encoder.describe(), side)
        return encoder
    require_stored(encoder.describe(), side)
    return _Queries(encoder) if side == "query" else encoder


def served_encoder(client: Client, side: Side | None) -> Encoder:
    """Gives the side of a server's encoder that reads texts. Raises as its `encode`."""
    return _ServedEncoder(client, side)


@dataclass(frozen=True, slots=True)
class _Queries:
    """The query tower, as the job takes it."""

    towers: Towers

    @property
    def fingerprint(self) -> str:
        return side_fingerprint(self.towers.fingerprint, "query")

    def describe(self) -> ModelDescription:
        return self.towers.describe()

    def encode(self, texts: Any, /, *, truncation: Truncation) -> NDArray[np.floating]:
        return self.towers.encode(texts, truncation=truncation, side="query")


class _ServedEncoder:
    """Encoder of a server, as the job takes it: the one that a name meant at first, and no other."""

    def __init__(self, client: Client, side: Side | None) -> None:
        self._client, self._side = client, side
        client.encode([], side=side)  # tells now what encodes nothing, or lacks the side: not of each row
        self._description = client.describe()
        if side == "query":  # one of a single side answers for it as for items
            require_side(self._description, side)

    @property
    def fingerprint(self) -> str:
        return side_fingerprint(self._description.fingerprint, self._side or "item")

    def describe(self) -> ModelDescription:
        return self._description

    def encode(self, texts: Any, /, *, truncation: Truncation) -> NDArray[np.floating]:
        wanted = self._description.fingerprint
        return self._client.encode(texts, truncation=truncation, side=self._side, fingerprint=wanted)
