"""Faults of reading: bundles of rankers made as if their checkpoint did not say what it says."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mutations.edits import constant, scalar
from mutations.fault import Fault, Plant, Subject, Tensors, as_if_exported_from, in_graphs, in_source
from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from support.forms import adapters

HEADS, HEAD_DIM, HIDDEN, WIDE = 4, 20, 32, 48
BLOCK = "model.layers.{}.{}.weight"


def exchanged(*names: str) -> Plant:
    """The checkpoint has two tensors where the bundle took them to be at each other's place, in every layer."""

    def change(tensors: Tensors) -> None:
        for layer in (0, 1):
            first, second = (BLOCK.format(layer, name) for name in names)
            tensors[first], tensors[second] = tensors[second], tensors[first]

    return in_source(tensors=change)


def reordered(places: Sequence[int], names: Sequence[str], *, outputs: Sequence[str] = ()) -> Plant:
    """The checkpoint's rows of `names` (columns of `outputs`) stand in another order, in every layer."""
    order = torch.tensor(places)

    def change(tensors: Tensors) -> None:
        for layer in (0, 1):
            for name in names:
                key = BLOCK.format(layer, name)
                rows = tensors[key].unflatten(0, (-1, len(order)))
                tensors[key] = rows[:, order].flatten(0, 1)
            for name in outputs:
                key = BLOCK.format(layer, name)
                tensors[key] = tensors[key].unflatten(1, (-1, len(order)))[:, :, order].flatten(1, 2)

    return in_source(tensors=change)


def layers(tensors: Tensors, order: Sequence[int]) -> None:
    """Puts the layers in another order."""
    old = dict(tensors)
    for to, source in enumerate(order):
        for name in old:
            if name.startswith(f"model.layers.{to}."):
                tensors[name] = old[name.replace(f"layers.{to}.", f"layers.{source}.")]


def _one_further(tensors: Tensors) -> None:
    """Keeps the second layer and one that the bundle never saw."""
    layers(tensors, (1, 1))
    torch.manual_seed(3)
    for name in [name for name in tensors if name.startswith("model.layers.1.")]:
        noise = torch.randn_like(tensors[name]) * 0.2
        tensors[name] = noise if noise.ndim > 1 else 1 + noise


def _biases(tensors: Tensors) -> None:
    torch.manual_seed(4)
    for name in [name for name in tensors if "_proj" in name and "self_attn" in name]:
        tensors[name.replace("weight", "bias")] = torch.randn(len(tensors[name])) * 0.1


def _untied(tensors: Tensors) -> None:
    tensors.pop("lm_head.weight")


def _adapted(subject: Subject, folder: Path) -> Subject:
    """The checkpoint is an adapter, the bundle its base's."""
    adapter = adapters.lora(folder / "adapter", subject.checkpoint, task_type="CAUSAL_LM").folder
    sha256 = load_checkpoint(adapter, base=subject.checkpoint).sha256
    adapted = replace(subject, options={**subject.options, "base": subject.checkpoint})
    return as_if_exported_from(adapter, sha256)(adapted, folder)


GQA_TILED = [row + 20 * head for head in (0, 2, 1, 3) for row in range(20)]
HALVES = [half * 10 + pair for pair in range(10) for half in (0, 1)]
ROTATED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.q_norm", "self_attn.k_norm")

FAULTS = [
    Fault(
        "rope theta of the config ignored",
        "The default base of the rotary encoding, where the checkpoint states 500,000.",
        "plain",
        in_source(config={"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}),
        "full_sequence/text",
    ),
    Fault(
        "rotary pairs interleaved",
        "Halves of a head are rotated with each other, where the checkpoint's weights are for neighbours.",
        "plain",
        reordered(HALVES, ROTATED),
        "full_sequence/text",
    ),
    Fault(
        "group order of heads",
        "A key head serves every second query head instead of two neighbours.",
        "plain",
        reordered(GQA_TILED, ["self_attn.q_proj"], outputs=["self_attn.o_proj"]),
        "full_sequence/text",
    ),
    Fault(
        "gate and up exchanged",
        "The activation is applied to the other half of the MLP.",
        "plain",
        exchanged("mlp.gate_proj", "mlp.up_proj"),
        "full_sequence/text",
    ),
    Fault(
        "layers in the wrong order",
        "The second layer runs first.",
        "plain",
        in_source(tensors=lambda tensors: layers(tensors, (1, 0))),
        "full_sequence/text",
    ),
    Fault(
        "layers dropped at the wrong end",
        "Of three layers the first two are kept, where the pruned checkpoint keeps the last two.",
        "plain",
        in_source(tensors=_one_further),
        "full_sequence/text",
    ),
    Fault(
        "a layer twice",
        "The first layer runs in the place of the second, too.",
        "plain",
        in_source(tensors=lambda tensors: layers(tensors, (0, 0))),
        "full_sequence/text",
    ),
    Fault(
        "bias dropped",
        "Attention projects without the biases of the checkpoint.",
        "plain",
        in_source(config={"attention_bias": True}, tensors=_biases),
        "full_sequence/text",
    ),
    Fault(
        "adapter not merged",
        "The bundle is that of the adapter's base.",
        "plain",
        _adapted,
        "full_sequence/text",
    ),
    Fault(
        "tied weights untied",
        "A stored LM head is used, where the config ties it to the embeddings.",
        "plain",
        in_source(config={"tie_word_embeddings": True}, tensors=_untied),
        "full_sequence/text",
    ),
    Fault(
        "activation of another family",
        "SiLU where the checkpoint says GELU.",
        "plain",
        in_source(config={"hidden_act": "gelu"}),
        "full_sequence/text",
    ),
    Fault(
        "activation's approximation",
        "GELU by its approximation by tanh, where the checkpoint has the exact one.",
        "gemma",
        in_source(config={"hidden_activation": "gelu"}),
        "full_sequence/text",
    ),
    Fault(
        "window ignored",
        "Every token is attended to, where the checkpoint has a sliding window of 16.",
        "gemma",
        in_source(config={"sliding_window": 16}),
        "full_sequence/text",
    ),
    Fault(
        "wrong softcap",
        "Attention scores are capped at 50, where the checkpoint says 5.",
        "gemma",
        in_source(config={"attn_logit_softcapping": 5.0}),
        "full_sequence/text",
    ),
    Fault(
        "logits' softcap dropped",
        "Logits come as they are, where the checkpoint caps them at 30.",
        "gemma",
        in_graphs(constant(scalar(30), lambda old: old * 1e3), "score"),
        "full_sequence/text",
    ),
    Fault(
        "embedding scale dropped",
        "Words are not multiplied by the root of the hidden size.",
        "gemma",
        in_graphs(constant("embed_scale", np.ones_like)),
        "full_sequence/text",
    ),
    Fault(
        "norms' offset dropped",
        "Norm weights are taken as they are stored, where the model adds 1.",
        "gemma",
        in_graphs(
            constant(
                lambda array: array.shape == (HIDDEN,) and array.dtype == np.float32, lambda old: old - 1
            )
        ),
        "full_sequence/text",
    ),
    Fault(
        "head's width for the scale",
        "Attention is scaled by the head's width, where the checkpoint says another number.",
        "gemma",
        in_source(config={"query_pre_attn_scalar": 32}),
        "full_sequence/text",
    ),
    Fault(
        "weights of another step",
        "The checkpoint was trained on after the export: 1 in 1,000 of each weight.",
        "plain",
        in_source(
            tensors=lambda tensors: tensors.update({name: value * 1.001 for name, value in tensors.items()})
        ),
        "full_sequence/text",
    ),
]
