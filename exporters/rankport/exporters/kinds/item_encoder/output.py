"""The embedding tokens that an item encoder makes."""

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.options.sentence_transformers import stored_normalize, stored_pooling
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Embedding


def output_form(source: Checkpoint, options: ItemEncoderOptions) -> Embedding:
    """Chooses pooling and form of an encoder's tokens; a sentence-transformers folder brings its own defaults."""
    pooling = options.pooling or stored_pooling(source.path)
    if pooling is None:
        raise InvalidRequest(
            "say how the hidden states become embedding tokens: --pooling last-k (with --tokens K), cls or mean; "
            "the checkpoint has no 1_Pooling/config.json that says it"
        )
    if options.tokens is not None and pooling != "last-k":
        raise InvalidRequest(f"--tokens goes with --pooling last-k; {pooling} makes one token")
    stored = stored_normalize(source.path)
    normalize = options.normalize if options.normalize is not None else stored
    return Embedding(
        tokens=options.tokens or 1,
        hidden_size=source.hidden_size,
        dtype=options.output_dtype or "float16",
        pooling=pooling,
        normalize=normalize,
    )
