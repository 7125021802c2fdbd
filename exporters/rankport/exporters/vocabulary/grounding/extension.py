"""A vocabulary with new tokens at its end: tokenizer, ids and model.

Owns which ids new tokens get. New ids first fill rows that the table has beyond the tokenizer's vocabulary (padding),
then make the table longer, as transformers does.
"""

from dataclasses import dataclass
from pathlib import Path

import tokenizers
from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.vocabulary.new_rows import NewRows, resolve_new_rows
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.protos.reasons import reason_of


@dataclass(frozen=True, slots=True)
class ExtendedVocabulary:
    """The tokenizer that knows the new tokens, and their rows."""

    tokenizer: tokenizers.Tokenizer
    rows: NewRows
    added: tuple[str, ...]  # tokens that the checkpoint's own tokenizer lacks


def add_tokens(source: Checkpoint, tokens: list[str]) -> ExtendedVocabulary:
    """Gives `tokens` the ids behind the tokenizer's. InvalidRequest for a token that is there already."""
    tokenizer = read_tokenizer(source)
    known = next((token for token in tokens if tokenizer.token_to_id(token) is not None), None)
    if known is not None:
        raise InvalidRequest(
            f"--add-tokens: {known!r} is in the tokenizer already as {tokenizer.token_to_id(known)}: to ground rows "
            "that exist, leave --add-tokens out and give --new-tokens or --first-new"
        )
    last = max(tokenizer.get_vocab().values(), default=-1)
    # Normalisation would look for the folded form in the text, single_word would miss <a_1><b_2>.
    tokenizer.add_tokens([tokenizers.AddedToken(token, normalized=False, special=False) for token in tokens])
    ids = [tokenizer.token_to_id(token) for token in tokens]
    first = ids[0]
    assert first is not None
    assert ids == list(range(first, first + len(tokens)))
    if first <= last:  # the library counts tokens, whose ids may have gaps
        raise CheckpointError(
            f"tokenizer.json has ids up to {last} with some missing between them: {tokens[0]!r} would get {first}, the "
            "id of another token; add tokens for the missing ids first"
        )
    total = max(source.vocab_size, first + len(tokens))
    return ExtendedVocabulary(tokenizer, NewRows(first, len(tokens), total, tuple(tokens)), tuple(tokens))


def existing_tokens(
    source: Checkpoint, *, new_tokens: int | None = None, first_new: int | None = None
) -> ExtendedVocabulary:
    """Finds the new tokens that a checkpoint has already; arguments as of `resolve_new_rows`."""
    rows = resolve_new_rows(source.path, source.vocab_size, new_tokens=new_tokens, first_new=first_new)
    return ExtendedVocabulary(read_tokenizer(source), rows, ())


def read_tokenizer(source: Checkpoint) -> tokenizers.Tokenizer:
    """Reads the checkpoint's tokenizer, without truncation and padding. Raises CheckpointError without one."""
    if source.tokenizer_file is None:
        raise CheckpointError(f"checkpoint {str(source.path)!r} has no tokenizer.json: texts cannot be read")
    return tokenizer_of(source.tokenizer_file)


def tokenizer_of(file: Path) -> tokenizers.Tokenizer:
    """Raises CheckpointError for a file that is no tokenizer."""
    try:
        tokenizer: tokenizers.Tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{file} is no tokenizer that can be read: {reason_of(error)}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def extend_model(model: nn.Module, rows: NewRows) -> None:
    """Makes the model's tables `rows.total` rows long; what the rows hold, `starts` decides."""
    if model.get_input_embeddings().num_embeddings < rows.total:  # type: ignore[operator]
        with quiet():
            model.resize_token_embeddings(rows.total, mean_resizing=False)  # type: ignore[operator]
