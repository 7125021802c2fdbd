"""Turns layers of a decoder without weights into expanded ones, and numbers its attention modules.

Each of a pair's two layers has an attention of its own with a KV of its own. Numbered in call order, they are layers
like any other to attention, the prefix cache and the runtime.
"""

from collections.abc import Collection

import torch
from torch import nn

from rankport.exporters.checkpoints.expansion.facts import Expansion
from rankport.exporters.checkpoints.expansion.merges import MERGES
from rankport.exporters.checkpoints.expansion.relaxed_norm import RelaxedNorm

_NORMS = ("input_layernorm", "post_attention_layernorm")


def expand(model: nn.Module, pairs: Collection[int], expansion: Expansion) -> None:
    """Replaces the layers `pairs` of a model of one of the families, in place. The new weights are undefined."""
    body = model.base_model
    layers: nn.ModuleList = body.layers  # type: ignore[union-attr, assignment]
    config = model.config
    for index in pairs:
        twin = _twin(layers[index], config, index)
        if expansion.norm_alpha != 0:
            _relax_norms(twin, expansion.norm_alpha)
        layers[index] = MERGES[expansion.merge_method](
            layers[index],
            twin,
            int(config.hidden_size),  # type: ignore[union-attr, arg-type]
            factor=expansion.has_factor,
        ).eval()
    number_attention(layers)
    # transformers' cache has one entry for each of num_hidden_layers.
    config.use_cache = False  # type: ignore[union-attr]


def number_attention(layers: nn.ModuleList) -> None:
    """Gives each attention module of the decoder an index of its own, in call order, first those of the first layer.

    Only caches read the index once a module is built: what the config says per layer, such as a sliding window, the
    module has taken over by then.
    """
    attentions = [part for part in layers.modules() if isinstance(getattr(part, "layer_idx", None), int)]
    for index, attention in enumerate(attentions):
        attention.layer_idx = index  # type: ignore[assignment]


def _twin(layer: nn.Module, config: object, index: int) -> nn.Module:
    """Makes a layer of the same shapes, its weights allocated and untouched."""
    with torch.device("meta"):
        twin = type(layer)(config, index)
    assert not list(twin.buffers())  # to_empty would leave them undefined
    return twin.to_empty(device="cpu").eval().requires_grad_(False)


def _relax_norms(layer: nn.Module, alpha: float) -> None:
    for name in _NORMS:
        norm = layer.get_submodule(name)
        setattr(layer, name, RelaxedNorm(norm.weight, float(norm.variance_epsilon), alpha))  # type: ignore[arg-type]
