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

_OF_OTHERS = {"decoder_start_token_id"}
"""Fields that change no text of a decoder alone, as XGLM's."""


def stated_generation(source: Checkpoint, stop_ids: Sequence[int] | None) -> Generation:
    """Reads what the folder says. `stop_ids`: its owner's own word on what ends a text.

    Raises CheckpointError naming a field that says how to write in a way that bundles cannot.
    """
    file, fields = stated_fields(source)
    refuse_others(fields, SAMPLING | _OF_OTHERS | {"min_new_tokens"}, file)
    ends = token_ids(fields.get("eos_token_id")) or token_ids(model_config(source).get("eos_token_id"))
    return Generation.model_validate(
        {
            "stop_ids": list(ends if stop_ids is None else stop_ids),
            "repetition_penalty": value_or(fields, "repetition_penalty", 1.0),
            "min_tokens": value_or(fields, "min_new_tokens", 0),
            **drawn(fields),
        }
    )
