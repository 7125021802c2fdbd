"""The plan of a ranker of sets: its schema, heads, state, and the files of its tables."""

from functools import partial

from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.set_ranker.id_keys import IdKeys
from rankport.exporters.kinds.set_ranker.facts import facts_of, sets_of
from rankport.exporters.kinds.set_ranker.graphs import set_ranker_graphs
from rankport.exporters.kinds.set_ranker.options import SetRankerOptions
from rankport.exporters.kinds.set_ranker.rows import check_rows, rounded_rows
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.runtime.bundle.manifest import Labels, Limits, ModelShape, Pairing, Prompt, Segment
from rankport.runtime.bundle.sections.sets import Sets, TableFile
from rankport.runtime.kinds.set_ranker.id_keys import key_file_bytes


def set_ranker_prompt(source: Checkpoint, options: SetRankerOptions) -> ResolvedPrompt:
    """Makes the prompt of what reads no text."""
    return ResolvedPrompt(Prompt(prefix=[], item=[Segment(item=True)]), None, None)


def plan_set_ranker(source: Checkpoint, prompt: ResolvedPrompt, options: SetRankerOptions) -> ExportPlan:
    """Plans a ranker of sets. Raises CheckpointError for what is none."""
    module = sets_of(source)
    facts = facts_of(module)
    dtype = options.table_dtype or "float32"
    schema = facts.schema
    for name in schema.tables:
        check_rows(name, module.tables[name].weight, dtype)  # type: ignore[arg-type]
    files = {
        f"tables/{name}.rows": rounded_rows(module.tables[name].weight, dtype).file()  # type: ignore[arg-type]
        for name in schema.tables
    }
    files |= {f"tables/{name}.keys": _key_file(module.ids[name]) for name in module.ids}
    return ExportPlan(
        shape=ModelShape(
            hidden_size=facts.hidden_size, vocab_size=source.vocab_size, layers=list(facts.layers)
        ),
        limits=Limits(max_prefix_tokens=schema.max_events, max_item_tokens=schema.max_candidates),
        labels=Labels(
            source="classification_head", names=list(facts.outputs), ids=list(range(len(facts.outputs)))
        ),
        score=facts.score,
        sets=Sets(
            **{name: getattr(schema, name) for name in type(schema).model_fields},
            files={
                name: TableFile(
                    file=f"tables/{name}.rows",
                    dtype=dtype,
                    keys=f"tables/{name}.keys" if name in module.ids else None,
                )
                for name in schema.tables
            },
            head_weights=dict(facts.head_weights),
        ),
        pairing=None
        if facts.encoder_fingerprint is None
        else Pairing(encoder_fingerprint=facts.encoder_fingerprint),
        files=files,
        graphs=partial(set_ranker_graphs, facts, dtype),
    )


def _key_file(keys: nn.Module) -> bytes:
    assert isinstance(keys, IdKeys)
    return key_file_bytes(keys.keys.numpy(), keys.rows.numpy())
