"""`export_towers` and `verify_towers`: two towers of one's own, a module in memory, through the steps of any export."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.module_checkpoint import module_checkpoint
from rankport.exporters.checkpoints.two_tower.module import TowersModule, TwoTower
from rankport.exporters.export import run_export
from rankport.exporters.kinds.table import options_of
from rankport.exporters.kinds.two_tower.facts import OwnTowers, TowerFacts
from rankport.exporters.kinds.two_tower.kind import TWO_TOWER
from rankport.exporters.options.checks import refuse_for_modules, require_choice, require_count, require_names
from rankport.exporters.options.prompts import tokenizer_of
from rankport.exporters.options.proof_options import verify_options
from rankport.exporters.options.request_files import StrPath
from rankport.exporters.verify import Verdict, run_verify
from rankport.protos.errors import InvalidRequest
from rankport.protos.wording import type_told
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest, Score
from rankport.runtime.bundle.sections.wide import WideFeature, repeated_name
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.kinds.two_tower.rules import SHARED

ScoreKind = Literal["logit", "probability", "cosine"]
_SCORES: dict[str, Score] = {
    "logit": Score(kind="logit", transform="none"),
    "probability": Score(kind="probability", transform="sigmoid"),
    "cosine": Score(kind="cosine", transform="none"),
}


def export_towers(
    module: nn.Module,
    out: StrPath,
    *,
    tokenizer: StrPath | None = None,
    vocab_size: int | None = None,
    shared: bool = False,
    outputs: Sequence[str] = ("relevant",),
    positive: int = 0,
    score: ScoreKind = "logit",
    features: Sequence[WideFeature | str] = (),
    max_query_tokens: int = 64,
    max_item_tokens: int = 256,
    on_progress: Callable[[str], None] = lambda step: None,
    **options: object,
) -> Bundle:
    """Exports a module with the two methods of `TowersModule` to a bundle, proven against the module's own forward.

    Args:
        module: in float32; it is put into eval mode. A `TwoTower` is saved instead, and its folder exported.
        out: directory of the bundle; on any error nothing is left there.
        tokenizer: tokenizer.json of both sides; without one requests are token ids, below `vocab_size`.
        shared: `represent` does the same on both sides: one graph then reads both.
        outputs: names of the logits; a score speaks for the one at `positive`.
        score: what that logit is: shown as it is, its sigmoid, or a cosine.
        features: wide features in the order of the module's, by name, or scaled and filled as a `WideFeature` says.
        options: fields of `TwoTowerOptions`, but for `quantize`.

    Raises:
        InvalidRequest: an option is wrong, or a method gives another shape than it must.
        CheckpointError: the module cannot be traced.
        ParityError: the bundle differs from the module beyond the tolerance.
    """
    if isinstance(module, TwoTower):
        raise InvalidRequest(
            "module is a TwoTower, whose config says all of this: save it, and export its folder"
        )
    if options.get("quantize") is not None:
        raise InvalidRequest("quantize: a module of one's own is exported as it is: leave it out")
    refuse_for_modules(options)
    require_names("outputs", outputs)
    require_names("features", features)
    require_choice("score", score, tuple(_SCORES))
    require_count("vocab_size", vocab_size, least=1)
    require_count("max_query_tokens", max_query_tokens, least=1)
    require_count("max_item_tokens", max_item_tokens, least=1)
    wide = tuple(WideFeature(name=each) if isinstance(each, str) else each for each in features)
    facts = TowerFacts(
        width=_width(module),
        outputs=tuple(outputs),
        positive=positive,
        wide=wide,
        shared=shared,
        max_query_tokens=max_query_tokens,
        max_item_tokens=max_item_tokens,
        score=_SCORES[score],
    )
    _check(facts)
    made = options_of(TWO_TOWER, options)
    load = partial(_source, module, facts, tokenizer, vocab_size)
    return run_export(type(module).__name__, out, TWO_TOWER, made, on_progress, load=load)


def verify_towers(
    bundle: StrPath,
    module: nn.Module,
    *,
    tokenizer: StrPath | None = None,
    on_progress: Callable[[str], None] = lambda step: None,
    **options: Any,
) -> Verdict:
    """Measures a bundle against the module that it was exported from; `options` are the fields of `VerifyOptions`.

    Raises CheckpointError for another module, or the same with other weights; else as `verify`.
    """
    manifest = open_bundle(bundle).manifest
    load = partial(_source, module, _facts_of(manifest), tokenizer, manifest.shape.vocab_size)
    refuse_for_modules(options)
    made = verify_options("verify_towers", options)
    return run_verify(bundle, type(module).__name__, made, on_progress, load=load)


def _source(
    module: nn.Module, facts: TowerFacts, tokenizer: StrPath | None, vocab_size: int | None
) -> Checkpoint:
    file = None if tokenizer is None else Path(tokenizer)
    read = tokenizer_of(file)
    vocabulary = vocab_size or (None if read is None else read.vocab_size)
    if vocabulary is None:
        raise InvalidRequest(
            "vocab_size is missing: without a tokenizer say how many token ids the module knows"
        )
    towers = OwnTowers(module, facts).eval()
    _check_shapes(towers)
    return module_checkpoint(
        module,
        towers,
        module,
        head="towers",
        vocab_size=vocabulary,
        hidden_size=facts.width,
        tokenizer_file=file,
    )


def _check(facts: TowerFacts) -> None:
    if not facts.outputs or len(set(facts.outputs)) < len(facts.outputs):
        raise InvalidRequest(f"outputs are {list(facts.outputs)}: give each logit a name of its own")
    if not 0 <= facts.positive < len(facts.outputs):
        raise InvalidRequest(
            f"positive is {facts.positive}: must be a place in the {len(facts.outputs)} outputs"
        )
    name = repeated_name(facts.wide)
    if name is not None:
        raise InvalidRequest(f"features name {name!r} twice")


def _width(module: nn.Module) -> int:
    if not isinstance(module, nn.Module) or not isinstance(module, TowersModule):
        raise InvalidRequest(
            f"module is {type_told(module)}; give a torch.nn.Module with the methods represent(input_ids, "
            "attention_mask, side) and score(query, items, features)"
        )
    return int(_rows(module.eval(), "item").shape[-1])


def _check_shapes(towers: OwnTowers) -> None:
    """Runs both methods once, so that another shape is told before a trace."""
    facts = towers.facts
    for side in ("query", "item"):
        rows = _rows(towers, side)
        if tuple(rows.shape) != (2, facts.width) or rows.dtype != torch.float32:
            raise InvalidRequest(
                f"represent gives {rows.dtype} {list(rows.shape)} of 2 texts as {side}; must be float32 "
                f"[2, {facts.width}]"
            )
    features = torch.zeros(2, len(facts.wide)) if facts.wide else None
    with torch.no_grad():
        logits = towers.score(rows[0], rows, features)
    if tuple(logits.shape) != (2, len(facts.outputs)):
        raise InvalidRequest(
            f"score gives {list(logits.shape)} of 2 items; must be [2, {len(facts.outputs)}], as outputs name them"
        )


def _rows(module: Any, side: str) -> Tensor:
    ids = torch.zeros(2, 3, dtype=torch.int64)
    with torch.no_grad():
        rows: Tensor = module.represent(ids, torch.ones_like(ids), side)
    return rows


def _facts_of(manifest: Manifest) -> TowerFacts:
    labels, score, embedding = manifest.labels, manifest.score, manifest.embedding
    if manifest.kind != TWO_TOWER.name or labels is None or score is None or embedding is None:
        raise InvalidRequest(
            f"bundle {manifest.name!r} is of kind {manifest.kind}: verify it by its checkpoint"
        )
    return TowerFacts(
        width=embedding.hidden_size,
        outputs=tuple(labels.names),
        positive=labels.positive,
        wide=tuple(manifest.wide),
        shared=any(graph.role == SHARED for graph in manifest.graphs),
        max_query_tokens=manifest.limits.max_prefix_tokens,
        max_item_tokens=manifest.limits.max_item_tokens,
        score=score,
    )
