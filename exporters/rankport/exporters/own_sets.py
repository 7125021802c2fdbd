"""`export_set_ranker` and `verify_set_ranker`: a ranker of sets of one's own, a module in memory, through the steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.module_checkpoint import module_checkpoint
from rankport.exporters.checkpoints.set_ranker.id_keys import OwnersIds
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel, SetsModule
from rankport.exporters.export import run_export
from rankport.exporters.kinds.set_ranker.facts import OwnSets, SetFacts
from rankport.exporters.kinds.set_ranker.kind import SET_RANKER
from rankport.exporters.kinds.table import options_of
from rankport.exporters.options.checks import refuse_for_modules, require_choice, require_count, require_names
from rankport.exporters.options.proof_options import verify_options
from rankport.exporters.options.request_files import StrPath
from rankport.exporters.verify import Verdict, run_verify
from rankport.protos.errors import InvalidRequest
from rankport.protos.wording import type_told
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import LayerKV, Manifest, Score
from rankport.runtime.bundle.manifest_json import explain
from rankport.runtime.bundle.sections.sets import SetSchema
from rankport.runtime.kinds.table import open_bundle

Rows = Tensor | NDArray[np.floating]
"""Rows of a table, [rows, width]."""
HeadScore = Literal["probability", "logit"]
_SCORES: dict[HeadScore, Score] = {
    "probability": Score(kind="probability", transform="sigmoid"),
    "logit": Score(kind="logit", transform="none"),
}


def export_set_ranker(
    module: nn.Module,
    sets: SetSchema | Mapping[str, object],
    out: StrPath,
    *,
    heads: Sequence[str],
    layers: int,
    attention_heads: int,
    head_dim: int,
    tables: Mapping[str, Rows] | None = None,
    ids: Mapping[str, OwnersIds] | None = None,
    score: HeadScore = "probability",
    head_weights: Mapping[str, float] | None = None,
    on_progress: Callable[[str], None] = lambda step: None,
    **options: object,
) -> Bundle:
    """Exports a module with the two methods of `SetsModule` to a bundle, proven against the module's own forward.

    Args:
        module: in float32; it is put into eval mode. A `SetRankerModel` is saved instead, and its folder exported.
        sets: the schema of events and candidates, as `sets` of a config.json has it.
        out: directory of the bundle; on any error nothing is left there.
        heads: names of the logits.
        layers, attention_heads, head_dim: of the state, key and value a layer, [attention_heads, events, head_dim].
        tables: rows [rows, width] of each table of the schema.
        ids: of each table that is looked up by keys the id of each row, [keys] from the first row on, or the row of
            each id.
        score: what a head's score is: the sigmoid of its logit, or the logit.
        head_weights: of the combination; None: 1 each.
        options: fields of `SetRankerOptions`.

    Raises:
        InvalidRequest: an option is wrong, or a method gives another shape than it must.
        CheckpointError: the module cannot be traced.
        ParityError: the bundle differs from the module beyond the tolerance.
    """
    if isinstance(module, SetRankerModel):
        raise InvalidRequest(
            "module is a SetRankerModel, whose config says all of this: save it, and export its folder"
        )
    if not isinstance(module, nn.Module) or not isinstance(module, SetsModule):
        raise InvalidRequest(
            f"module is {type_told(module)}; give a torch.nn.Module with the methods history(events, times, "
            "past, past_times) and rank(candidates, now, past, past_times, sessions)"
        )
    refuse_for_modules(options)
    require_names("heads", heads)
    require_choice("score", score, tuple(_SCORES))
    for count, value in (("layers", layers), ("attention_heads", attention_heads), ("head_dim", head_dim)):
        require_count(count, value, least=1)
    schema, names = _schema(sets), tuple(heads)
    if not names or len(set(names)) < len(names):
        raise InvalidRequest(f"heads are {list(names)}: give each logit a name of its own")
    weights = _weights(head_weights, names)
    state = (LayerKV(kv_heads=attention_heads, head_dim=head_dim),) * layers
    facts = SetFacts(schema, names, weights, _SCORES[score], state, attention_heads * head_dim)
    load = partial(_source, module, facts, _tensors(tables), ids or {})
    made = options_of(SET_RANKER, options)
    return run_export(type(module).__name__, out, SET_RANKER, made, on_progress, load=load)


def verify_set_ranker(
    bundle: StrPath,
    module: nn.Module,
    *,
    tables: Mapping[str, Rows] | None = None,
    ids: Mapping[str, OwnersIds] | None = None,
    on_progress: Callable[[str], None] = lambda step: None,
    **options: Any,
) -> Verdict:
    """Measures a bundle against the module that it was exported from; `options` are the fields of `VerifyOptions`.

    Raises CheckpointError for another module, or the same with other weights; else as `verify`.
    """
    load = partial(_source, module, _facts_of(open_bundle(bundle).manifest), _tensors(tables), ids or {})
    refuse_for_modules(options)
    made = verify_options("verify_set_ranker", options)
    return run_verify(bundle, type(module).__name__, made, on_progress, load=load)


def _source(
    module: nn.Module, facts: SetFacts, tables: Mapping[str, Tensor], ids: Mapping[str, OwnersIds]
) -> Checkpoint:
    _check_tables(facts.schema, tables)
    own = OwnSets(module.eval(), facts, tables, ids).eval()
    _check_state(own)
    _check_logits(own)
    vocab_size = max((len(rows) for rows in tables.values()), default=1)
    return module_checkpoint(
        module, own, own, head="sets", vocab_size=vocab_size, hidden_size=facts.hidden_size
    )


def _tensors(tables: Mapping[str, Rows] | None) -> dict[str, Tensor]:
    return {name: torch.as_tensor(rows) for name, rows in (tables or {}).items()}


def _weights(given: Mapping[str, float] | None, heads: Sequence[str]) -> dict[str, float]:
    """Takes the weights of a combination, 1 each by default. Raises InvalidRequest for what is no head or number."""
    if given is None:
        return dict.fromkeys(heads, 1.0)
    if not given:
        raise InvalidRequest("head_weights is {}: give a number for each head that counts, or leave it out")
    for name, weight in given.items():
        if name not in heads:
            raise InvalidRequest(f"head_weights: {name!r} is no head: there are {', '.join(heads)}")
        if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight):
            raise InvalidRequest(f"head_weights[{name!r}] is {weight!r:.40}: give a finite number")
    if not any(given.values()):
        raise InvalidRequest("head_weights are all 0: give the weight of a head that counts")
    return {name: float(weight) for name, weight in given.items()}


def _schema(sets: SetSchema | Mapping[str, object]) -> SetSchema:
    if isinstance(sets, SetSchema):
        return sets
    if not isinstance(sets, Mapping):
        raise InvalidRequest(f"sets is {type_told(sets)}: give a mapping, as sets of a config.json")
    try:
        return SetSchema.model_validate(dict(sets))
    except ValidationError as error:
        raise InvalidRequest(f"sets: {explain(error)}") from None


def _check_state(own: OwnSets) -> None:
    """Runs `history` once, so that another shape is told before a trace."""
    schema, layers = own.facts.schema, own.facts.layers
    events, times = torch.zeros(2, schema.width(schema.event)), torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        state = own.history(events, times, _no_past(own.facts), times[:0])
    given = [list(part.shape) for part in state]
    wanted = [[layer.kv_heads, 2, layer.head_dim] for layer in layers for _ in range(2)]
    if given != wanted:
        raise InvalidRequest(f"history gives {given} of 2 events; must be key and value a layer, {wanted}")


def _no_past(facts: SetFacts) -> list[Tensor]:
    return [torch.zeros(layer.kv_heads, 0, layer.head_dim) for layer in facts.layers for _ in range(2)]


def _check_tables(schema: SetSchema, tables: Mapping[str, Tensor]) -> None:
    stated = {name: [table.rows, table.width] for name, table in schema.tables.items()}
    given = {name: list(rows.shape) for name, rows in tables.items()}
    if stated != given:
        raise InvalidRequest(f"tables are {given}; the schema says {stated}")


def _check_logits(own: OwnSets) -> None:
    """Runs `rank` once, so that another shape is told before a trace."""
    facts, sessions = own.facts, torch.zeros(2, dtype=torch.int64)
    candidates = torch.zeros(2, facts.schema.width(facts.schema.candidate))
    with torch.no_grad():
        logits = own.rank(candidates, sessions[:1], _no_past(facts), sessions[:0], sessions)
    if tuple(logits.shape) != (2, len(facts.outputs)):
        raise InvalidRequest(
            f"rank gives {list(logits.shape)} of 2 candidates; must be [2, {len(facts.outputs)}], as heads name them"
        )


def _facts_of(manifest: Manifest) -> SetFacts:
    sets, labels, score = manifest.sets, manifest.labels, manifest.score
    if sets is None or labels is None or score is None:
        raise InvalidRequest(
            f"bundle {manifest.name!r} is of kind {manifest.kind}: verify it by its checkpoint"
        )
    schema = SetSchema(**{name: getattr(sets, name) for name in SetSchema.model_fields})
    return SetFacts(
        schema,
        tuple(labels.names),
        sets.head_weights,
        score,
        tuple(manifest.shape.layers),
        manifest.shape.hidden_size,
    )
