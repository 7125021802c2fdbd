"""A model of a config without its weights: modules in place, parameters allocated and never touched.

Untouched pages cost no memory, and buffers such as rotary frequencies are the ones the model computes for itself,
which a model on the meta device would lack.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import torch
import transformers
from torch import nn
from transformers.initialization import no_init_weights

from rankport.exporters.checkpoints.forms.folder import Head
from rankport.exporters.checkpoints.forms.own_classes import OWN_CLASSES
from rankport.exporters.graphs.ordered_sets import sets_made_in_order
from rankport.protos.errors import CheckpointError

_AUTO_CLASSES: dict[Head, type] = {
    "lm_head": transformers.AutoModelForCausalLM,
    "seq2seq_lm_head": transformers.AutoModelForSeq2SeqLM,
    "masked_lm_head": transformers.AutoModelForMaskedLM,
    "classification_head": transformers.AutoModelForSequenceClassification,
    "token_head": transformers.AutoModelForTokenClassification,
    "none": transformers.AutoModel,
}


_BY_KERNEL = frozenset({"mra"})
"""Families whose attention transformers computes on a GPU alone."""


def model_class(config: transformers.PreTrainedConfig, head: Head) -> type:
    """Finds the class of a config's model with this head. The body of an encoder-decoder is its encoder, and
    `config` is made that of an encoder.

    Raises CheckpointError for an encoder-decoder whose encoder is no model of its own, and for a family that cannot be
    computed here or has no such model.
    """
    if config.model_type in _BY_KERNEL:
        raise CheckpointError(
            f"{config.model_type} attends by a CUDA kernel of its own, in whose absence transformers puts zeros in "
            "the place of attention and says nothing: no export of it can be proven: use another model"
        )
    if config.model_type in OWN_CLASSES:
        return OWN_CLASSES[config.model_type].of_head(head)
    if head == "lm_head":
        return _lm_class(config)
    encoder = _encoder_class(config) if head == "none" else None
    if encoder is None and head == "none" and config.is_encoder_decoder:
        raise CheckpointError(
            f"{config.model_type} is an encoder-decoder, and transformers has no model of its encoder alone, as it has "
            "of T5's: an item encoder is an encoder or a decoder"
        )
    if encoder is not None:
        config.is_encoder_decoder = False  # as T5's encoder says itself, and T5Gemma's asks to be told
    return encoder or _AUTO_CLASSES[head]


def _lm_class(config: transformers.PreTrainedConfig) -> type:
    """Finds the auto class, or the class that the config names: of those that see or hear too there is no other."""
    auto = transformers.AutoModelForCausalLM
    if type(config) in auto._model_mapping:
        return auto
    named = getattr(transformers, (config.architectures or ["?"])[0], None)
    if isinstance(named, type) and getattr(named, "config_class", None) is type(config):
        return named
    raise CheckpointError(
        f"transformers {transformers.__version__} has no ...ForCausalLM of model_type {config.model_type!r}, and "
        f"config.json names architectures {config.architectures}: name the class that the weights are of"
    )


def _encoder_class(config: transformers.PreTrainedConfig) -> type | None:
    """Finds T5EncoderModel and its like: their config is the encoder-decoder's, of which AutoModel makes both."""
    whole = transformers.AutoModel._model_mapping.get(type(config), None)
    if not isinstance(whole, type):
        return None
    return getattr(transformers, f"{whole.__name__.removesuffix('Model')}EncoderModel", None)


def skeleton(config: transformers.PreTrainedConfig, head: Head) -> nn.Module:
    """Makes the fp32 model of `config`, in eval mode, its weights undefined. Raises CheckpointError if it cannot."""
    try:
        with building(config), no_init_weights():
            kind = model_class(config, head)
            # Auto classes choose one by the config, a class of its own is chosen already.
            auto = getattr(kind, "from_config", None)
            # Where it is not said transformers asks whoever is at the terminal.
            build = kind._from_config if auto is None else partial(auto, trust_remote_code=False)  # type: ignore[attr-defined]
            model = build(config, dtype=torch.float32, attn_implementation="eager")
    except CheckpointError:
        raise
    except Exception as error:  # the model's code raises whatever it likes
        raise CheckpointError(
            f"cannot build a {config.model_type} model of config.json: {type(error).__name__}: {error}"
        ) from error
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def token_table(model: nn.Module) -> Any:
    """Finds the table of token embeddings. Raises CheckpointError for a model without one."""
    try:
        table = model.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        table = None
    if not hasattr(table, "weight") and not hasattr(table, "num_embeddings"):
        raise CheckpointError(
            f"{type(model).__name__} has no table with a row for each token id: it reads something else than "
            "tokens of a text (characters by their hashes, images, sound), which no bundle does"
        )
    return table


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and warnings out of our output: what matters in them is an error here.

    Open over the whole of an export, a verification and a grounding; in tests parts of them run by themselves.
    """
    chatter = transformers.utils.logging
    shown, verbosity = chatter.is_progress_bar_enabled(), chatter.get_verbosity()
    chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
    chatter.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        chatter.set_verbosity(verbosity)
        if shown:
            chatter.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def building(config: transformers.PreTrainedConfig) -> Iterator[None]:
    """Has transformers, while open, build the same of a config in every process, and say nothing of it."""
    with quiet(), sets_made_in_order(_code_of(config)):
        yield


def _code_of(config: transformers.PreTrainedConfig) -> set[ModuleType]:
    """Finds the modules of Python with the bodies of a config and of those in it, as one that sees has of texts."""
    body = transformers.AutoModel._model_mapping.get(type(config), None)
    kinds = body if isinstance(body, tuple) else () if body is None else (body,)
    inner = [getattr(config, name, None) for name in config.sub_configs]
    return {sys.modules[kind.__module__] for kind in kinds}.union(
        *(_code_of(part) for part in inner if isinstance(part, transformers.PreTrainedConfig))
    )
