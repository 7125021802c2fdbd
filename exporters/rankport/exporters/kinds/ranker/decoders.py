"""Tests of a checkpoint for being a ranker: a decoder whose head answers, so that a prefix can be shared."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from rankport.exporters.checkpoints.forms.folder import Head
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.protos.errors import CheckpointError


def is_decoder(model: StatedModel) -> bool:
    """Tells whether a class reads from left to right and ends in labels, by its name and the name of its head."""
    return model.head in ("lm_head", "classification_head") and model.encoder_head is None


def require_decoder(checkpoint: Path, base: Path | None) -> None:
    """Raises CheckpointError, before any weight is read, for what is no decoder with such a head."""
    model = StatedModel.read(checkpoint, base)
    if model.makes_embeddings and model.has_class_labels:
        return  # its body ends in Dense layers, whatever head its class has
    if model.reads_both_ways:
        raise CheckpointError(
            f"{model.architecture} reads both ways, by the word of config.json, so that no prefix can be shared: "
            "--kind cross-encoder scores pairs by a head of labels, --kind classifier gives its labels, --kind "
            "item-encoder pools any such model"
        )
    if model.encoder_head is not None:
        raise CheckpointError(
            f"{model.architecture} has a head named {model.encoder_head!r}, as models that read in both directions do: "
            "--kind cross-encoder scores pairs with it, --kind classifier gives its labels. --kind ranker takes "
            "decoders (...ForCausalLM, or ...ForSequenceClassification with a head named 'score'), whose prefix can "
            "be shared"
        )
    if model.head == "seq2seq_lm_head":
        raise CheckpointError(
            f"{model.architecture} is an encoder-decoder, whose encoder reads prefix and item in both directions: "
            "--kind cross-encoder scores pairs by the first token that it writes"
        )
    if model.head == "token_head":
        raise CheckpointError(f"{model.architecture} labels each token of a text: use --kind tagger")
    if model.head in _OTHER_KINDS:
        is_a, kind = _OTHER_KINDS[model.head]
        raise CheckpointError(f"{model.architecture} is a {is_a}: use --kind {kind}")


_OTHER_KINDS: Mapping[Head, tuple[str, str]] = MappingProxyType(
    {
        "towers": ("two-tower", "two-tower"),
        "sets": ("ranker of sets", "set-ranker"),
        "list": ("ranker of lists", "list-ranker"),
    }
)
