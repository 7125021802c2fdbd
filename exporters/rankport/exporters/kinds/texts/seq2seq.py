"""Conditions of an encoder-decoder whose head answers, without which its graph would not be exact."""

from collections.abc import Sequence

from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.texts.head_module import begins_with_last, decoder_start
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.protos.errors import CheckpointError


def require_read_again(source: Checkpoint, prompt: ResolvedPrompt) -> None:
    """Checks an encoder-decoder with a classification head; does nothing for another model.

    Raises CheckpointError for a head that is none of BART's or T5's, and for texts that do not end where it reads.
    """
    model = source.model
    if not model.config.is_encoder_decoder:  # type: ignore[union-attr]
        return
    if not isinstance(getattr(model, "classification_head", None), nn.Module):
        raise CheckpointError(
            f"{source.architecture} is an encoder-decoder without a classification_head, by which BART's and T5's read "
            "the last state of their decoder: another head cannot be exported"
        )
    if not begins_with_last(model):
        decoder_start(model)
    ends = _ids(model.config.eos_token_id)  # type: ignore[union-attr, arg-type]
    if _last_token(prompt) not in ends:
        raise CheckpointError(
            f"{source.architecture} answers at the last end token ({', '.join(map(str, ends)) or 'none is stated'}, "
            "eos_token_id of config.json), with which its tokenizer does not end a text: give the checkpoint the "
            "tokenizer.json that it was trained with"
        )


def require_first_step(source: Checkpoint) -> None:
    """Checks an encoder-decoder whose first token answers. Raises CheckpointError where it is not free to choose it."""
    model = source.model
    start, writes = decoder_start(model), getattr(model, "generation_config", None)
    if getattr(writes, "decoder_start_token_id", None) not in (None, start):
        raise CheckpointError(
            f"decoder_start_token_id is {writes.decoder_start_token_id} in generation_config.json, and {start} in "  # type: ignore[union-attr]
            "config.json: by which the first token is found is open: make them equal"
        )
    forced = getattr(writes, "forced_bos_token_id", None)
    if forced is not None:
        raise CheckpointError(
            f"generation_config.json: forced_bos_token_id is {forced}: the first token that {source.architecture} "
            "writes is always that one, and cannot answer"
        )


def _ids(stated: int | Sequence[int] | None) -> tuple[int, ...]:
    if stated is None:
        return ()
    return (stated,) if isinstance(stated, int) else tuple(stated)


def _last_token(prompt: ResolvedPrompt) -> int | None:
    """Finds the token that every text ends in; None where that is the text's own."""
    special = prompt.prompt.item[-1].special
    return None if special is None or prompt.tokenizer is None else prompt.tokenizer.token_id(special[-1])
