"""Word of a decoder's folder on how text is to be written: what ends it, and how tokens are drawn."""

from collections.abc import Sequence

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.stated_writing import (
    SAMPLING,
    drawn,
    model_config,
    refuse_others,
    stated_fields,
    token_ids,
    value_or,
)
from rankport.runtime.bundle.manifest import Generation


def stated_generation(source: Checkpoint, stop_ids: Sequence[int] | None) -> Generation:
    """Reads generation_config.json, if there is one, and the config. `stop_ids`: its owner's own word on them.

    Raises CheckpointError naming a field that says how to write in a way that bundles cannot.
    """
    fields = stated_fields(source) or {}
    refuse_others(fields, SAMPLING)
    ends = token_ids(fields.get("eos_token_id")) or token_ids(model_config(source).get("eos_token_id"))
    return Generation.model_validate(
        {
            "stop_ids": list(ends if stop_ids is None else stop_ids),
            "repetition_penalty": value_or(fields, "repetition_penalty", 1.0),
            **drawn(fields),
        }
    )
