"""Trains the demo's ranker on title phrases: `python -m examples.esco.train_ranker`.

Owns the run. Writes a Hugging Face checkpoint in half precision and training.json; all evaluation splits are measured
on that checkpoint, loaded anew. No occupation of the unseen splits is read at any step.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from examples.esco.baselines import cosine_ndcg, mean_ndcg
from examples.esco.cosine_start import Shape, build_model, constant_direction
from examples.esco.dataset import EVALUATION_SPLITS, Dataset
from examples.esco.evaluate import score_checkpoint
from examples.esco.lists import ListShape
from examples.esco.minilm import MiniLM
from examples.esco.stages import Material, StageConfig, train_lists, train_queries
from examples.esco.teacher import Teacher, build_vocabulary

CHECKPOINT_DIR = Path(__file__).parent / "checkpoint"
PROMPT_FILE = Path(__file__).parent / "prompt.toml"


def _queries_stage() -> StageConfig:
    return StageConfig(steps=260, batch=128, words=32, fragments=48, rate=6e-4, row_rate=4e-4, sharpness=20.0)


def _lists_stage() -> StageConfig:
    return StageConfig(steps=140, batch=64, words=8, rate=1.5e-4, row_rate=1e-4, sharpness=15.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Every choice of a run, made on the valid splits."""

    seed: int = 7
    threads: int = 1
    nearest_words: int = 5000  # of MiniLM's vocabulary, beside the words of the training texts
    shape: Shape = field(default_factory=Shape)
    queries: StageConfig = field(default_factory=_queries_stage)
    lists: StageConfig = field(default_factory=_lists_stage)
    list_shape: ListShape = field(default_factory=ListShape)


@dataclass(frozen=True, slots=True)
class TrainedRanker:
    """A model in fp32 and its tokenizer."""

    model: Any
    tokenizer: Any

    def save(self, path: Path) -> None:
        """Writes config.json, model.safetensors in half precision, and the tokenizer's files."""
        self.model.to(torch.float16).save_pretrained(path)
        self.tokenizer.save_pretrained(path)


def train(
    config: TrainingConfig,
    dataset: Dataset,
    minilm: MiniLM,
    item_tokens: NDArray[np.float16],
    on_stage: Callable[[str, Any, Any], None] = lambda *_: None,
) -> TrainedRanker:
    """Trains on the dataset's phrases with `item_tokens` [items, hidden], in dataset order.

    `on_stage` is given the name, model and tokenizer after the start and after each stage.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    constant = constant_direction(item_tokens[list(dataset.training_rows())])
    teacher = Teacher.build(dataset, minilm)
    tokenizer, rows = build_vocabulary(dataset, minilm, teacher, config.nearest_words, constant)
    direction = torch.from_numpy(constant)
    model = build_model(config.shape, tokenizer, torch.from_numpy(rows), direction)
    material = Material(model, tokenizer, dataset, teacher, item_tokens, direction)
    model.train()
    on_stage("start", model, tokenizer)
    train_queries(material, config.queries, rng)
    on_stage("queries", model, tokenizer)
    train_lists(material, config.lists, config.list_shape, rng)
    on_stage("lists", model, tokenizer)
    model.eval()
    return TrainedRanker(model, tokenizer)


def evaluate(path: Path, dataset: Dataset, item_tokens: NDArray[np.float16]) -> dict[str, float]:
    """NDCG@10 of a saved checkpoint on each evaluation split."""
    figures = {}
    for split in track(EVALUATION_SPLITS, "evaluating"):
        queries = dataset.split(split)
        figures[split] = mean_ndcg(queries, score_checkpoint(path, dataset, queries, item_tokens))
    return figures


def evaluate_cosine(dataset: Dataset, minilm: MiniLM, item_tokens: NDArray[np.float16]) -> dict[str, float]:
    """NDCG@10 of MiniLM's own cosine on each evaluation split."""
    figures = {}
    for split in EVALUATION_SPLITS:
        queries = dataset.split(split)
        vectors = minilm.encode([query.text for query in queries])
        figures[split] = cosine_ndcg(dataset, queries, vectors, item_tokens.astype(np.float32))
    return figures


def main() -> None:
    """Trains, saves, measures, and prints the figures."""
    config, out = _arguments()
    torch.set_num_threads(config.threads)
    dataset, minilm = Dataset.load(), MiniLM.load()
    clock, seconds = time.perf_counter, {}
    start = clock()

    def note(stage: str) -> None:
        seconds[stage] = round(clock() - start - sum(seconds.values()))

    item_tokens = minilm.encode([item.text for item in dataset.items]).astype(np.float16)
    train(config, dataset, minilm, item_tokens, lambda stage, *_: note(stage)).save(out)
    report = {
        "seconds": seconds,
        "ndcg_at_10": evaluate(out, dataset, item_tokens),
        "minilm_ndcg_at_10": evaluate_cosine(dataset, minilm, item_tokens),
        "phrases": len(dataset.phrases),
        "items": len(dataset.training_rows()),
        "config": asdict(config),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")},
        "data": "This uses the ESCO classification of the European Commission.",
    }
    (out / "training.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: report[name] for name in ("ndcg_at_10", "minilm_ndcg_at_10")}))


def _arguments() -> tuple[TrainingConfig, Path]:
    parser = argparse.ArgumentParser(description="Trains the demo's ranker.")
    parser.add_argument("--out", type=Path, default=CHECKPOINT_DIR, help="folder of the checkpoint")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    values = vars(parser.parse_args())
    out = values.pop("out")
    return TrainingConfig(**values), out


if __name__ == "__main__":
    main()
