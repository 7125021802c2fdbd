"""Loading of towers to their parts, of a two-tower or an item encoder, and their representations in a store."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from rankport.protos.errors import InvalidRequest, PairingError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.description import read_out
from rankport.runtime.bundle.fingerprint import side_fingerprint
from rankport.runtime.bundle.manifest import Labels, Manifest, Role, Score, Segment
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.rules import RULES as ITEM_ENCODER_RULES
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.score_answer import ScoreForm
from rankport.runtime.kinds.text_engines import TextsEngine, text_engines
from rankport.runtime.kinds.two_tower.parts import TowerParts
from rankport.runtime.kinds.two_tower.reader import Reader
from rankport.runtime.kinds.two_tower.rules import NAME, RULES, is_sparse, role_of
from rankport.runtime.kinds.two_tower.scorers import CosineScorer, GraphScorer, RowScorer
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.store.contract import TokenNamespace, TokenStore

_RULES = {**RULES, **ITEM_ENCODER_RULES}
_OUTPUT = Labels(source="classification_head", names=["cosine"], ids=[0])
_COSINE = Score(kind="cosine", transform="none")


def opened_towers(bundle: str | os.PathLike[str] | Bundle) -> Bundle:
    """Opens the bundle of towers, or of an item encoder. Raises `BundleError`, as for one opened before."""
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, _RULES)
    check_manifest(opened.manifest, _RULES)  # of a bundle that was opened as one of any kind
    return opened


def load_parts(bundle: Bundle, query: Bundle | None, config: EngineConfig) -> TowerParts:
    """Loads a two-tower, or an item encoder; `query` is the bundle of the latter that reads queries.

    Raises as `load_text_backend`, InvalidRequest for a `query` that does not go with the bundle.
    """
    with ExitStack() as loaded:
        if bundle.manifest.kind == NAME:
            parts = _two_tower(bundle, query, config, loaded)
        else:
            parts = _item_encoder(bundle, query, config, loaded)
        loaded.pop_all()
    return parts


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Representations that a store has of a bundle, by side; None: it has none."""

    items: TokenNamespace | None = None
    queries: TokenNamespace | None = None


def has_rows(store: TokenStore, fingerprint: str) -> bool:
    """Tells whether a store has representations of a bundle's own, of items or of queries."""
    return not store.fingerprints().keys().isdisjoint((fingerprint, side_fingerprint(fingerprint, "query")))


def stored_rows(
    store: TokenStore, manifest: Manifest, query: Manifest | None, same_reading: bool
) -> StoredRows:
    """Finds a bundle's own representations; `query` is the bundle that reads queries, if that is another.

    Raises PairingError if the store has none, with the fingerprints.
    """
    held, own = store.fingerprints(), manifest.fingerprint
    asked = side_fingerprint(own, "query") if query is None else query.fingerprint
    if asked not in held and same_reading:
        asked = own
    if own not in held and asked not in held:
        raise PairingError(
            f"store {store.location} has no representations of bundle {manifest.name!r} ({own}), but of "
            f"{', '.join(held) or 'no encoder'}: run `rankport encode` with this bundle"
        )
    return StoredRows(*(store.namespace(name) if name in held else None for name in (own, asked)))


def _two_tower(bundle: Bundle, query: Bundle | None, config: EngineConfig, loaded: ExitStack) -> TowerParts:
    manifest = bundle.manifest
    if query is not None:
        raise InvalidRequest(
            f"query: bundle {manifest.name!r} of kind {NAME} reads queries itself: leave it out"
        )
    prompt = PromptEncoder.from_bundle(bundle)
    engines = {
        role: _engines(bundle, role, config, loaded)
        for role in dict.fromkeys(role_of(manifest, side) for side in ("query", "item"))
    }
    sides = {
        side: Reader(prompt, engines[role_of(manifest, side)], as_prefix=side == "query")
        for side in ("query", "item")
    }
    scorer = GraphScorer(bundle, config)
    loaded.callback(scorer.close)
    return TowerParts(
        sides["query"],
        sides["item"],
        scorer,
        ScoreForm.of(manifest),
        same_reading=len(engines) == 1 and _frame(manifest.prompt.prefix) == _frame(manifest.prompt.item),
        close=_closer(tuple(engines.values()), scorer),
        sparse=is_sparse(manifest),
    )


def _item_encoder(
    bundle: Bundle, query: Bundle | None, config: EngineConfig, loaded: ExitStack
) -> TowerParts:
    _require_one_token(bundle.manifest)
    item = _encoder_reader(bundle, config, loaded)
    asking = item
    if query is not None:
        _require_twin(bundle.manifest, query.manifest)
        asking = _encoder_reader(query, config, loaded)
    scorer = CosineScorer()
    engines = tuple({id(reader.engines): reader.engines for reader in (item, asking)}.values())
    return TowerParts(
        asking,
        item,
        scorer,
        ScoreForm(_OUTPUT, _COSINE, bundle.manifest.fingerprint, read_out(_OUTPUT, _COSINE)),
        same_reading=query is None,
        close=_closer(engines, scorer),
    )


def _encoder_reader(bundle: Bundle, config: EngineConfig, loaded: ExitStack) -> Reader:
    return Reader(
        PromptEncoder.from_bundle(bundle), _engines(bundle, "encode", config, loaded), as_prefix=False
    )


def _require_one_token(manifest: Manifest) -> None:
    assert manifest.embedding is not None
    if manifest.embedding.tokens != 1:
        raise InvalidRequest(
            f"bundle {manifest.name!r} makes {manifest.embedding.tokens} tokens of a text, and a cosine is of one: "
            "export it with a pooling that makes one"
        )


def _require_twin(item: Manifest, query: Manifest) -> None:
    """Checks that two item encoders are one model, read with two prompts."""
    if query.kind != item.kind or query.embedding != item.embedding:
        raise InvalidRequest(f"query: bundle {query.name!r} makes other representations than {item.name!r}")
    if query.source.checkpoint_sha256 != item.source.checkpoint_sha256:
        raise InvalidRequest(f"query: bundle {query.name!r} is of another checkpoint than {item.name!r}")


def _engines(bundle: Bundle, role: Role, config: EngineConfig, loaded: ExitStack) -> Replicas[TextsEngine]:
    engines = text_engines(bundle, role, config)
    loaded.callback(engines.close)
    return engines


def _closer(engines: tuple[Replicas[TextsEngine], ...], scorer: RowScorer) -> Callable[[float], None]:
    def close(grace_s: float) -> None:
        for each in engines:
            each.close(grace_s)
        scorer.close()

    return close


def _frame(segments: list[Segment]) -> list[Segment]:
    """Gives the segments with the value that they are around as if it were an item."""
    return [
        segment if segment.field is None else segment.model_copy(update={"field": None, "item": True})
        for segment in segments
    ]
