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

from examples.arguments import add_out, at_least
from examples.esco.bag import Bag
from examples.esco.baselines import cosine_ndcg, mean_ndcg
from examples.esco.dataset import EVALUATION_SPLITS, Dataset
from examples.esco.decoder import LateDecoder, Shape, constant_direction
from examples.esco.evaluate import score_checkpoint
from examples.esco.learning import ItemTargets
from examples.esco.lessons import Lesson, LessonConfig, train_queries
from examples.esco.minilm import MiniLM
from examples.esco.teacher import Head, HeadConfig, Teacher, Texts
from examples.esco.vocabulary import piece_texts, ranker_tokenizer, useful_words

CHECKPOINT_DIR = Path(__file__).parent / "checkpoint"
PROMPT_FILE = Path(__file__).parent / "prompt.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Every choice of a run, made on the valid splits."""

    seed: int = 7
    threads: int = 1
    pieces: int = 16_200  # of the vocabulary
    practice: int = 30_000  # texts
    practice_words: int = 12_000  # that they are made of
    group_share: float = 0.4  # of a phrase's target, for the rest of its item's unit group
    head: HeadConfig = field(default_factory=HeadConfig)
    shape: Shape = field(default_factory=Shape)
    lessons: LessonConfig = field(default_factory=LessonConfig)


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
    on_stage: Callable[[str], None] = lambda _: None,
) -> TrainedRanker:
    """Trains on the dataset's phrases with `item_tokens` [items, hidden], in dataset order.

    `on_stage` is given the name of each stage when it ends.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    tokens = torch.from_numpy(item_tokens[list(dataset.training_rows())].astype(np.float32))
    teacher = Teacher.build(dataset, minilm, config.practice, config.practice_words, rng)
    on_stage("texts")
    targets = ItemTargets(dataset, config.group_share)
    head = Head.fit(teacher.phrases.vectors, targets, tokens, config.lessons.sharpness, config.head, rng)
    decoder = start(config, dataset, minilm, teacher, head, tokens)
    on_stage("start")
    decoder.model.train()
    lessons = (lesson(decoder, head, texts) for texts in (teacher.phrases, teacher.practice, teacher.words))
    train_queries(decoder, *lessons, targets, tokens, config.lessons, rng)
    on_stage("queries")
    return TrainedRanker(decoder.model.eval(), decoder.tokenizer)


def start(
    config: TrainingConfig,
    dataset: Dataset,
    minilm: MiniLM,
    teacher: Teacher,
    head: Head,
    item_tokens: torch.Tensor,
) -> LateDecoder:
    """The decoder with the query vectors of the best bag of words; `item_tokens` [training items, hidden]."""
    tokenizer = ranker_tokenizer(
        minilm.tokenizer.backend_tokenizer,
        teacher.phrases.texts,
        [dataset.items[row].text for row in dataset.training_rows()],
        useful_words(teacher.words.texts),
        config.pieces,
    )
    kinds = (teacher.phrases, teacher.practice, teacher.words)
    ids = [
        run for kind in kinds for run in tokenizer(list(kind.texts), add_special_tokens=False)["input_ids"]
    ]
    vectors = torch.cat([head(torch.from_numpy(kind.vectors)) for kind in kinds])
    pieces = head(torch.from_numpy(minilm.encode(piece_texts(tokenizer))))
    constant = torch.from_numpy(constant_direction(item_tokens.numpy()))
    return LateDecoder.build(config.shape, tokenizer, Bag.fit(ids, vectors, pieces), constant)


def lesson(decoder: LateDecoder, head: Head, texts: Texts) -> Lesson:
    """The texts as the decoder reads them, with the vectors that the head makes of MiniLM's."""
    return Lesson(decoder.prefixes(list(texts.texts)), head(torch.from_numpy(texts.vectors)))


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
    train(config, dataset, minilm, item_tokens, note).save(out)
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
    add_out(parser, CHECKPOINT_DIR, "folder of the checkpoint")
    parser.add_argument("--seed", type=at_least(0), default=7)
    parser.add_argument("--threads", type=at_least(1), default=1, help="of torch")
    values = vars(parser.parse_args())
    out = values.pop("out")
    return TrainingConfig(**values), out


if __name__ == "__main__":
    main()
