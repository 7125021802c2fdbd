"""Word of an encoder-decoder's folder on how text is to be written: where it begins and ends, and by how many beams.

Owns the meaning of `generate`'s fields for such a model.
"""

from collections.abc import Mapping, Sequence

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
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Decoding, Generation

_READ = SAMPLING | {
    "decoder_start_token_id",
    "early_stopping",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "min_length",
    "min_new_tokens",
    "no_repeat_ngram_size",
    "num_beams",
    "num_return_sequences",  # all that beams find is returned
}


def stated_generation(source: Checkpoint, stop_ids: Sequence[int] | None) -> Generation:
    """Reads what the folder says. `stop_ids`: its owner's own word on what ends a text.

    Raises CheckpointError naming a field that says how to write in a way that bundles cannot, or one that is missing.
    """
    file, fields = stated_fields(source)
    refuse_others(fields, _READ, file)
    config = model_config(source)
    ends = token_ids(fields.get("eos_token_id")) or token_ids(config.get("eos_token_id"))
    if fields.get("do_sample") and value_or(fields, "num_beams", 1) != 1:
        raise CheckpointError(
            f"{file}: do_sample with num_beams {fields['num_beams']}: bundles find beams by likelihood: remove one"
        )
    decoding = Decoding(
        start_id=_start(file, fields, config),
        first_id=_one(file, fields, "forced_bos_token_id"),
        last_id=_one(file, fields, "forced_eos_token_id"),
        min_tokens=max(_count(fields, "min_length") - 1, _count(fields, "min_new_tokens")),
        no_repeat_ngram=_count(fields, "no_repeat_ngram_size"),
        beams=_count(fields, "num_beams") or 1,
        length_penalty=value_or(fields, "length_penalty", 1.0),  # type: ignore[arg-type]
        early_stopping=value_or(fields, "early_stopping", False),  # type: ignore[arg-type]
    )
    return Generation.model_validate(
        {
            "stop_ids": list(ends if stop_ids is None else stop_ids),
            "repetition_penalty": value_or(fields, "repetition_penalty", 1.0),
            "decoding": decoding,
            **drawn(fields),
        }
    )


def stated_max_tokens(source: Checkpoint) -> int | None:
    """Counts the tokens that a text may have by the folder's word, the one that it begins behind left out."""
    _, fields = stated_fields(source)
    return _count(fields, "max_new_tokens") or max(0, _count(fields, "max_length") - 1) or None


def _start(file: str, fields: Mapping[str, object], config: Mapping[str, object]) -> int:
    for said in (fields, config):
        for name in ("decoder_start_token_id", "bos_token_id"):
            token = said.get(name)
            if isinstance(token, int):
                return token
    raise CheckpointError(
        f"{file}: decoder_start_token_id is missing, the token that a text begins behind: add it (T5's is its pad "
        "token, 0)"
    )


def _one(file: str, fields: Mapping[str, object], name: str) -> int | None:
    tokens = fields.get(name)
    if tokens is None or isinstance(tokens, int):
        return tokens
    raise CheckpointError(f"{file}: {name} is {tokens!r}: bundles put one token there: say which")


def _count(fields: Mapping[str, object], name: str) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else 0
