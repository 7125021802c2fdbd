"""Items per second of the demo's ranker on this machine: full-text prompts, shared prefix, embedding tokens."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from examples.esco.dataset import Dataset
from rankport.protos.types import Key
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.tokens import TokenRun

ITEMS = 100
ROUNDS = 3
QUERIES = 4


def measure_throughput(checkpoint: Path, bundle: Path, store: Path, dataset: Dataset) -> dict[str, float]:
    """Medians over interleaved rounds; each round scores the same items for queries it has not seen."""
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, local_files_only=True, dtype=torch.float32
    ).eval()
    items = dataset.items[:ITEMS]
    texts, keys = [item.text for item in items], [Key(item.id) for item in items]
    queries = [query.text for query in dataset.split("train")]
    with Ranker.load(bundle, store=store) as ranker:

        def full_text(query: str) -> None:
            prefix, runs = ranker.encode({"query": query}, texts, truncation="truncate")
            _full_prompts(model, prefix, runs)

        forms: dict[str, Callable[[str], object]] = {
            "full_text": full_text,
            "shared_prefix": lambda query: ranker.score({"query": query}, texts, truncation="truncate"),
            "embedding_tokens": lambda query: ranker.score({"query": query}, keys),
        }
        rates: dict[str, list[float]] = {name: [] for name in forms}
        for round_ in range(ROUNDS + 1):
            for name, score in forms.items():
                fresh = queries[round_ * QUERIES : (round_ + 1) * QUERIES]
                start = time.perf_counter()
                for query in fresh:
                    score(query)
                if round_ > 0:  # the first round warms up
                    rates[name].append(len(fresh) * ITEMS / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in rates.items()}


def _full_prompts(model: Any, prefix: TokenRun, runs: list[TokenRun]) -> None:
    """transformers with each item's whole prompt, sorted by length so that padding is small."""
    prompts = sorted((torch.from_numpy(run.ids) for run in runs), key=len)
    head = torch.from_numpy(prefix.ids)
    with torch.inference_mode():
        for start in range(0, len(prompts), 16):
            part = [torch.cat([head, item]) for item in prompts[start : start + 16]]
            lengths = torch.tensor([len(prompt) for prompt in part])
            ids = torch.nn.utils.rnn.pad_sequence(part, batch_first=True)
            mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
            hidden = model.model(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
            model.lm_head(hidden[torch.arange(len(part)), lengths - 1])
