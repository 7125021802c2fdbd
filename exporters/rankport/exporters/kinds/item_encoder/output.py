"""The embedding tokens that an item encoder makes."""

from collections.abc import Sequence

from rankport.exporters.checkpoints.bidirectional_llama.config import pooling_of
from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.onnx_model import EMBEDDING
from rankport.exporters.checkpoints.sentence_transformers.dense import require_chained
from rankport.exporters.checkpoints.sentence_transformers.folder import EncoderFolder, read_encoder_folder
from rankport.exporters.checkpoints.states import first_state_sees_all, states_width
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.own_embedding import own_form
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Embedding, Pooling


def output_form(source: Checkpoint, options: ItemEncoderOptions, skip_tokens: int = 0) -> Embedding:
    """Chooses pooling and form of an encoder's tokens; a sentence-transformers folder brings its own defaults.

    `skip_tokens` is how many first tokens of an item are its prompt, which the folder may leave out of the pooling.
    Raises CheckpointError for a folder that cannot be exported, InvalidRequest for options that contradict each other.
    """
    folder = read_encoder_folder(source.path)
    stated = () if folder is None else folder.pooling.modes
    own = None if stated else own_form(source)
    if own is not None:
        _require_own(options, *own)
        stated = (own[0],)
    elif not stated and (pooling := pooling_of(source.model.config)) is not None:  # type: ignore[arg-type]
        stated = (pooling,)
    chosen = stated if options.pooling is None else (options.pooling,)
    if not chosen:
        raise InvalidRequest(
            "say how the hidden states become embedding tokens: --pooling last-k (with --tokens K), cls or mean; "
            "the checkpoint has no modules.json of sentence-transformers that says it"
        )
    if options.tokens is not None and chosen != ("last-k",):
        raise InvalidRequest(f"--tokens goes with --pooling last-k; {' + '.join(chosen)} makes one token")
    if (options.tokens or 1) > 1 and skip_tokens:
        raise InvalidRequest(
            f"--tokens {options.tokens}: the pooling leaves the prompt out, and makes one token"
        )
    _require_seen(source, chosen)
    layers = () if folder is None else folder.dense
    states = states_width(source.model, source.hidden_size)
    if folder is not None:
        folder.pooling.require_width(states, source.hidden_size)
    width = require_chained(layers, states * len(chosen))
    cut = None if folder is None else folder.truncate_dim
    return Embedding(
        tokens=options.tokens or 1,
        hidden_size=width if cut is None else min(cut, width),
        dtype=options.output_dtype or "float16",
        pooling=chosen[0],
        normalize=options.normalize if options.normalize is not None else _normalizes(folder, own),
        further_poolings=list(chosen[1:]),
        skip_tokens=skip_tokens,
        dense=[layer for _, layer in layers],
        cut_from=width if cut is not None and cut < width else None,
    )


def _require_seen(source: Checkpoint, poolings: Sequence[Pooling]) -> None:
    """Raises CheckpointError for embeddings at the first token of a model in which that token sees no other."""
    if "cls" in poolings and not first_state_sees_all(source.model):
        raise CheckpointError(
            f"{source.architecture} reads from left to right, and pooling cls takes its state at a text's first token, "
            "which sees no other: texts that begin alike would have one embedding. Say is_causal false in config.json "
            "if the model was trained to read both ways, else another --pooling"
        )


def _normalizes(folder: EncoderFolder | None, own: tuple[Pooling, bool] | None) -> bool:
    return own[1] if own is not None else folder is not None and folder.normalize


def _require_own(options: ItemEncoderOptions, pooling: Pooling, normalize: bool) -> None:
    """Raises InvalidRequest for options that make other embeddings than a graph's own."""
    if options.pooling not in (None, pooling) or options.normalize not in (None, normalize):
        how = f"{pooling}, {'normalized' if normalize else 'not normalized'}"
        raise InvalidRequest(
            f"--pooling {options.pooling}, --normalize {options.normalize}: the graph's own {EMBEDDING} is {how}: "
            f"leave them out, or take {EMBEDDING} out of the graph's outputs"
        )
