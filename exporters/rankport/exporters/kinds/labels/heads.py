"""Classification heads: names of their outputs, and which way the model under them reads."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers.modeling_layers import GenericForSequenceClassification

from rankport.exporters.checkpoints.bidirectional_llama.config import MODEL_TYPE as BIDIRECTIONAL_TYPE
from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.config.direction import reads_both_ways
from rankport.exporters.kinds.labels.score import positive_of_head
from rankport.protos.errors import CheckpointError
from rankport.protos.wording import repeated
from rankport.runtime.bundle.manifest import Labels


def head_names(checkpoint: Checkpoint) -> list[str]:
    """Lists the names of a classification head's outputs. Raises CheckpointError as `names_in_order`."""
    return names_in_order(checkpoint.model.config.id2label, "config.json")  # type: ignore[union-attr, arg-type]


def names_in_order(id2label: Mapping[int | str, object], where: str) -> list[str]:
    """Lists the names of outputs, from the first on, by their places.

    Raises CheckpointError if two have one name, or the places do not count from 0: a name would be of another output.
    """
    stated = {int(place): str(name) for place, name in id2label.items()}
    if sorted(stated) != list(range(len(id2label))):
        raise CheckpointError(
            f"{where}: id2label names the outputs {', '.join(map(str, id2label))}: must count from 0 to "
            f"{len(id2label) - 1}"
        )
    names = [stated[place] for place in range(len(stated))]
    if twice := repeated(names):
        raise CheckpointError(f"{where}: id2label names several outputs {twice[0]!r}: give each its own name")
    return names


def head_labels(checkpoint: Checkpoint, positive: str | None) -> Labels:
    """Takes the outputs of a classification head for labels. Raises as `head_names` and `positive_of_head`."""
    names = head_names(checkpoint)
    return Labels(
        source="classification_head",
        names=names,
        ids=list(range(len(names))),
        positive=positive_of_head(names, positive),
    )


def is_of_decoder(model: nn.Module) -> bool:
    """Tells whether a classification head is a decoder's, which way ever that reads: transformers calls it `score`."""
    return hasattr(model, "score")


def reads_last_token(model: nn.Module) -> bool:
    """Tells whether a classification head is read at a text's last token that is no padding, by transformers' own code.

    Most decoders share it; classes with a `forward` of their own may answer otherwise.
    """
    return getattr(type(model), "forward", None) is GenericForSequenceClassification.forward


def require_both_ways(checkpoint: Checkpoint, instead: str) -> None:
    """Checks that a text's head reads states that have seen all of the text.

    Raises CheckpointError for a decoder that reads from left to right, with what to do `instead`, and for one that
    reads both ways, or is an encoder, and answers by code of its class.
    """
    model = checkpoint.model
    if not is_of_decoder(model) or checkpoint.model_type == BIDIRECTIONAL_TYPE:
        return
    stated: Any = model.config
    if hasattr(stated, "encoder"):
        raise CheckpointError(
            f"{checkpoint.architecture} answers by a head of its own behind an encoder, or an encoder and a decoder, "
            "which no graph computes yet: --kind item-encoder pools the encoder's states"
        )
    config = stated.get_text_config()
    if reads_both_ways(vars(config)):
        if reads_last_token(model):
            return
        raise CheckpointError(
            f"{checkpoint.architecture} reads both ways, by the word of its config, and answers by code of its own: of "
            "such decoders the head at the last token that transformers shares among classes is exported: --kind "
            "item-encoder pools its states"
        )
    raise CheckpointError(
        f"{checkpoint.architecture} is a decoder, which reads from left to right: {instead}"
    )
