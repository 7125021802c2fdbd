"""The model of a shape in torch, filled on the device, without a checkpoint on disk."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Qwen3ForCausalLM

from benchmarks.gpu.workload.queries import EMBEDDED
from benchmarks.gpu.workload.shapes import ModelShape
from benchmarks.gpu.workload.weights import SCALES, kind_of, qwen3_config, random_bytes
from rankport.runtime.tokens import TokenRun

_BATCH_TOKENS = 32_768


def random_model(shape: ModelShape, device: str, dtype: torch.dtype) -> Any:
    """transformers' model with the weights of `weights`, sdpa attention."""
    config = qwen3_config(shape)
    config._attn_implementation = "sdpa"
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = Qwen3ForCausalLM(config).eval().requires_grad_(False)  # type: ignore[no-untyped-call]
    finally:
        torch.set_default_dtype(before)
    sizes = shape.parameters()
    named = dict(model.named_parameters())
    assert named.keys() == sizes.keys(), named.keys() ^ sizes.keys()
    with torch.no_grad():
        for name, value in named.items():
            fill(value, name)
    return model


def fill(value: torch.Tensor, name: str) -> None:
    """What `weights.stored` gives, computed where the parameter lies."""
    if value.ndim == 1:
        value.fill_(SCALES[kind_of(name)])
        return
    drawn = torch.from_numpy(random_bytes(name, tuple(value.shape))).to(value.device)
    value.copy_((drawn.float() * 2 - 255) * SCALES[kind_of(name)])


@torch.inference_mode()
def label_logits(
    model: Any, prefix: TokenRun, items: Sequence[TokenRun], labels: Sequence[int]
) -> NDArray[np.float32]:
    """Logits after each prefix + item as one full sequence, no cache, no padding. [items, labels]"""
    result = np.empty((len(items), len(labels)), np.float32)
    by_length: dict[int, list[int]] = {}
    for index, item in enumerate(items):
        by_length.setdefault(len(item.ids), []).append(index)
    rows = model.lm_head.weight[list(labels)]
    for length, members in by_length.items():
        size = max(1, _BATCH_TOKENS // (length + len(prefix.ids)))
        for start in range(0, len(members), size):
            part = members[start : start + size]
            states = torch.stack(
                [torch.cat([_states(model, prefix), _states(model, items[i])]) for i in part]
            )
            last = model.model(inputs_embeds=states, use_cache=False).last_hidden_state[:, -1]
            result[part] = (last @ rows.T).float().cpu().numpy()
    return result


def _states(model: Any, run: TokenRun) -> torch.Tensor:
    """Input embeddings. [tokens, hidden]"""
    table = model.model.embed_tokens
    ids = torch.from_numpy(np.array(run.ids)).to(table.weight.device)
    states: torch.Tensor = table(ids.clamp(min=0))
    if run.embeddings is not None:
        states[ids == EMBEDDED] = torch.from_numpy(run.embeddings).to(states)
    return states
