"""A list ranker of four layers as wide as Qwen3-0.6B's: prompts a second, read at markers, beside transformers.

Exports on the spot, from random weights, all layers with full attention, then every second with a sliding window.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Qwen3Config, Qwen3Model

from benchmarks.gpu.reports.part import Part, arguments
from benchmarks.gpu.workload.texts import run_rates, save_tokenizer
from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel
from rankport.exporters.graphs.bundle_writer import BundleStaging
from rankport.exporters.kinds.list_ranker.kind import LIST_RANKER
from rankport.exporters.kinds.list_ranker.options import ListRankerOptions
from rankport.exporters.steps.stage import stage
from rankport.runtime.backends.choice import load_marked_backend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.list_ranker.rules import ROLE
from rankport.runtime.tokens import TokenRun, TokenRuns

_ITEM, _QUERY = "[CLS]", "[SEP]"  # of the tokenizer, as markers
_ITEM_ID, _QUERY_ID, _WORDS = 2, 3, 4
_ITEM_TOKENS = 32


def main() -> None:
    """Each form: what is read at markers beside the module in fp32, then rates."""
    part = arguments(__doc__)
    for name, window in (("full attention", None), ("every second layer by a window", 1024)):
        if part.enough(12 if part.on_gpu else 0, name):
            _measure(part, name, window if part.on_gpu or window is None else 16)
    part.figures.add("done", True)


def _measure(part: Part, name: str, window: int | None) -> None:
    torch.manual_seed(0)
    config = _shape(part, window)
    checkpoint = part.work / "lists.checkpoint"
    model = _model(config)
    model.save(checkpoint)
    save_tokenizer(checkpoint, config.vocab_size)
    lengths = (1024, 4096) if part.on_gpu else (64,)
    backend = load_marked_backend(_export(part, checkpoint, lengths[-1]), ROLE, part.engine)
    try:
        one, marks = _prompts(config, 1, lengths[-1])
        with torch.inference_mode():
            expected = model(torch.tensor(one), torch.tensor(marks)).numpy()[0]
        read = np.asarray(backend.compute(TokenRuns.of([TokenRun(one[0])])))
        error = float(np.abs(read - expected).max())
        part.figures.add(f"{name}, vectors", {"max_abs_error": error, "spread": float(expected.std())})
        peer = model.to(part.device, torch.float16 if part.on_gpu else torch.float32)
        for length in lengths:
            prompts = max(1, part.engine.text_batch_tokens // length)
            ids, marks = _prompts(config, prompts, length)
            theirs = partial(_read, peer, torch.tensor(marks, device=part.device))
            run_rates(part, backend, theirs, ids, _flops(config, length), f"{name}, {length} tokens")
    finally:
        backend.close()


def _read(peer: ListRankerModel, marks: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    vectors: torch.Tensor = peer(ids, marks)
    return vectors


def _shape(part: Part, window: int | None) -> Qwen3Config:
    wide, layers = part.on_gpu, 4 if part.on_gpu else 2
    kinds = [
        "full_attention" if window is None or index % 2 else "sliding_attention" for index in range(layers)
    ]
    return Qwen3Config(
        vocab_size=8192 if wide else 101,
        hidden_size=1024 if wide else 32,
        num_hidden_layers=layers,
        num_attention_heads=16 if wide else 4,
        num_key_value_heads=8 if wide else 2,
        head_dim=128 if wide else 8,
        intermediate_size=3072 if wide else 48,
        max_position_embeddings=4096 if wide else 64,
        sliding_window=window,
        use_sliding_window=window is not None,
        layer_types=kinds,
    )


def _model(config: Qwen3Config) -> ListRankerModel:
    raw = config.to_dict()
    raw.pop("architectures", None)
    width = config.hidden_size // 2
    projector = [
        {"in_features": config.hidden_size, "out_features": width, "activation": "relu"},
        {"in_features": width, "out_features": width, "activation": "identity"},
    ]
    tail = [{"text": " "}, {"field": "query"}, {"mark": "query"}]
    form: dict[str, Any] = {
        "body": raw,
        "projector": [layer | {"bias": False} for layer in projector],
        "template": {"item": [{"item": True}, {"mark": "item"}], "tail": tail},
        "item_marker": _ITEM,
        "query_marker": _QUERY,
        "max_items": 125,
    }
    return ListRankerModel(ListRankerConfig.model_validate(form), Qwen3Model(config)).eval()


def _export(part: Part, checkpoint: Path, tokens: int) -> Bundle:
    """Its proof is left to the device."""
    chosen = ListRankerOptions(
        target="onnx-cuda" if part.on_gpu else "onnx-cpu",
        precision="fp16" if part.on_gpu else None,
        max_list_tokens=tokens,
        overwrite=True,
    )
    with BundleStaging(part.work / "lists.bundle", overwrite=True) as staging:
        draft, _ = stage(staging, LIST_RANKER, checkpoint, chosen, [], print)
        staging.finalize(draft)
        return staging.publish()


def _prompts(config: Qwen3Config, count: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws prompts [count, length] with an item's marker behind so many tokens, the query's at the end, and places."""
    ids = np.random.default_rng(length).integers(_WORDS, config.vocab_size, (count, length))
    marks = np.append(np.arange(_ITEM_TOKENS - 1, length - 1, _ITEM_TOKENS), length - 1)
    ids[:, marks] = _ITEM_ID
    ids[:, -1] = _QUERY_ID
    return ids, np.tile(marks, (count, 1))


def _flops(config: Qwen3Config, tokens: int) -> float:
    """Floating-point operations of one prompt: products of matrices, and what each token attends to."""
    q, kv = config.num_attention_heads * config.head_dim, (config.num_key_value_heads or 0) * config.head_dim
    matrices = config.hidden_size * (2 * q + 2 * kv + 3 * config.intermediate_size)
    seen = 0.0
    for kind in config.layer_types or ():
        window = config.sliding_window if kind == "sliding_attention" else None
        seen += float(np.minimum(np.arange(1, tokens + 1), window or tokens).sum())
    return 2.0 * config.num_hidden_layers * tokens * matrices + 4.0 * q * seen


if __name__ == "__main__":
    main()
