"""The embedding tokens that a decoder takes as items, and the encoder that they must come from."""

from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.options.request_files import StrPath
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Embedding, Pairing
from rankport.runtime.kinds.table import open_bundle


def item_tokens(
    source: Checkpoint, item_encoder: StrPath | None, embedding_tokens: int | None
) -> tuple[Embedding | None, Pairing | None]:
    """Reads form and origin of the tokens that are taken: from the encoder's bundle, or its bare fingerprint.

    Raises CheckpointError where the widths differ, InvalidRequest for options that say too little or contradict.
    """
    if item_encoder is None:
        return None, None
    width = source.model.get_input_embeddings().embedding_dim  # type: ignore[operator]
    if width != source.hidden_size:
        raise CheckpointError(
            f"input embeddings are {width} wide, hidden states {source.hidden_size}: it takes no embedding tokens"
        )
    named = str(item_encoder)
    if bare_fingerprint(named) is not None:
        if embedding_tokens is None:
            raise InvalidRequest(
                "--item-encoder is a bare fingerprint: say --embedding-tokens, the tokens of an item"
            )
        form = Embedding(tokens=embedding_tokens, hidden_size=source.hidden_size, dtype="float16")
        return form, Pairing(encoder_fingerprint=named)
    manifest = open_bundle(named).manifest
    if manifest.embedding is None or not manifest.embedding.is_output:
        raise InvalidRequest(
            f"--item-encoder {named}: {manifest.name!r} is a {manifest.kind}, not an item encoder"
        )
    tokens = manifest.embedding
    if tokens.hidden_size != source.hidden_size:
        raise CheckpointError(
            f"the item encoder {manifest.name!r} makes tokens {tokens.hidden_size} wide and the checkpoint's input "
            f"embeddings are {source.hidden_size} wide: the widths must be equal; a projector between them belongs "
            "behind the encoder, as Dense modules of a folder of sentence-transformers"
        )
    if embedding_tokens not in (None, tokens.tokens):
        raise InvalidRequest(f"--embedding-tokens is {embedding_tokens}, the encoder makes {tokens.tokens}")
    form = Embedding(tokens=tokens.tokens, hidden_size=tokens.hidden_size, dtype=tokens.dtype)
    return form, Pairing(encoder_fingerprint=manifest.fingerprint)


def bare_fingerprint(item_encoder: StrPath) -> str | None:
    """Returns `item_encoder` where it is a fingerprint; None where it is the path of a bundle."""
    named = str(item_encoder)
    is_hash = len(named) == 64 and all(digit in "0123456789abcdef" for digit in named)
    return named if is_hash and not Path(named).exists() else None
