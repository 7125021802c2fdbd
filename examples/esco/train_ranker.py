"""Trains the demo's ranker on title phrases: `python -m examples.esco.train_ranker`.

Owns the model's shape, the loss and the loop. Writes a Hugging Face checkpoint in half precision and
training.json; both evaluation splits are measured on that checkpoint, loaded anew.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch.nn import functional
from transformers import Qwen3Config, Qwen3ForCausalLM

from examples.esco.baselines import mean_ndcg
from examples.esco.dataset import EVALUATION_SPLITS, Dataset
from examples.esco.evaluate import score_checkpoint
from examples.esco.lists import ListSampler, ListShape
from examples.esco.minilm import MiniLM
from examples.esco.packing import logit_gaps, pack
from examples.esco.vocabulary import PromptIds, pruned_tokenizer

CHECKPOINT_DIR = Path(__file__).parent / "checkpoint"
PROMPT_FILE = Path(__file__).parent / "prompt.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Every choice of a run, made on the valid split."""

    seed: int = 7
    passes: int = 1  # over the phrases
    batch: int = 64  # phrases
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.08  # share of the steps
    max_gradient_norm: float = 1.0
    partial_weight: float = 0.25  # of a partial item in the target; the positive's is 1
    layers: int = 4
    heads: int = 6
    kv_heads: int = 2
    intermediate_size: int = 768
    embedding_std: float = 0.02


@dataclass(frozen=True, slots=True)
class TrainedRanker:
    """A model in fp32 and its tokenizer."""

    model: Any
    tokenizer: Any

    def save(self, path: Path) -> None:
        """Writes config.json, model.safetensors in half precision, and the tokenizer's files."""
        self.model.to(torch.float16).save_pretrained(path)
        self.tokenizer.save_pretrained(path)


def build_model(config: TrainingConfig, tokenizer: Any, vocab: Mapping[str, int], table: torch.Tensor) -> Any:
    """A small Qwen3 as wide as `table` [len(vocab), hidden]; known pieces start from its rows, scaled."""
    hidden = table.shape[1]
    model: Any = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=hidden // config.heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    known = {id: vocab[piece] for piece, id in tokenizer.get_vocab().items() if piece in vocab}
    scale = config.embedding_std / table.std()
    with torch.no_grad():
        model.get_input_embeddings().weight[list(known)] = table[list(known.values())] * scale
    return model


def listwise_loss(gaps: torch.Tensor, gains: torch.Tensor, partial_weight: float) -> torch.Tensor:
    """Cross-entropy of a softmax over each list [batch, items] with its weighted gains (Cao et al., 2007)."""
    target = (gains == 2) + partial_weight * (gains == 1)
    return functional.cross_entropy(gaps, target / target.sum(1, keepdim=True))


def train(
    config: TrainingConfig, dataset: Dataset, minilm: MiniLM, item_tokens: NDArray[np.float16]
) -> TrainedRanker:
    """Trains on the dataset's phrases with `item_tokens` [items, hidden], in dataset order."""
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    tokenizer = pruned_tokenizer(minilm.tokenizer.backend_tokenizer, [p.text for p in dataset.phrases])
    table = minilm.model.embeddings.word_embeddings.weight.detach()
    model = build_model(config, tokenizer, minilm.tokenizer.get_vocab(), table)
    ids = PromptIds.of(tokenizer)
    prefixes = [ids.prefix(tokenizer, phrase.text) for phrase in dataset.phrases]
    tokens = torch.from_numpy(item_tokens.astype(np.float32))
    sampler = ListSampler.build(dataset, item_tokens, ListShape())
    batches = list(_batches(len(prefixes), config, rng))
    optimizer, schedule = _optimizer(model, config, len(batches))
    model.train()
    for phrases in track(batches, "training"):
        rows, gains = sampler.draw_batch(phrases, rng)
        batch = pack([prefixes[phrase] for phrase in phrases], tokens[rows], ids.end, ids.pad)
        gaps = logit_gaps(model, batch, ids.labels)
        loss: Any = listwise_loss(gaps, torch.from_numpy(gains), config.partial_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_gradient_norm)
        optimizer.step()
        schedule.step()
    model.eval()
    return TrainedRanker(model, tokenizer)


def _batches(phrases: int, config: TrainingConfig, rng: np.random.Generator) -> Iterator[list[int]]:
    """Every phrase once a pass, in random order."""
    for _ in range(config.passes):
        order = rng.permutation(phrases).tolist()
        yield from (order[start : start + config.batch] for start in range(0, phrases, config.batch))


def _optimizer(model: Any, config: TrainingConfig, steps: int) -> tuple[torch.optim.AdamW, Any]:
    """AdamW with decay on matrices only; linear warm-up, then a cosine to zero."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
    warmup = max(1, round(config.warmup * steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def evaluate(path: Path, dataset: Dataset, item_tokens: NDArray[np.float16]) -> dict[str, float]:
    """NDCG@10 of a saved checkpoint on each evaluation split."""
    figures = {}
    for split in EVALUATION_SPLITS:
        queries = dataset.split(split)
        figures[split] = mean_ndcg(queries, score_checkpoint(path, dataset, queries, item_tokens))
    return figures


def main() -> None:
    """Trains, saves, measures, and prints the figures."""
    config, out = _arguments()
    dataset, minilm = Dataset.load(), MiniLM.load()
    item_tokens = minilm.encode([item.text for item in dataset.items]).astype(np.float16)
    start = time.perf_counter()
    train(config, dataset, minilm, item_tokens).save(out)
    report = {
        "ndcg_at_10": evaluate(out, dataset, item_tokens),
        "training_s": round(time.perf_counter() - start),
        "threads": torch.get_num_threads(),
        "phrases": len(dataset.phrases),
        "config": asdict(config),
        "lists": asdict(ListShape()),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")},
        "data": "This uses the ESCO classification of the European Commission.",
    }
    (out / "training.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report["ndcg_at_10"]))


def _arguments() -> tuple[TrainingConfig, Path]:
    parser = argparse.ArgumentParser(description="Trains the demo's ranker.")
    parser.add_argument("--out", type=Path, default=CHECKPOINT_DIR, help="folder of the checkpoint")
    for field in fields(TrainingConfig):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(field.default), default=field.default)
    values = vars(parser.parse_args())
    out = values.pop("out")
    return TrainingConfig(**values), out


if __name__ == "__main__":
    main()
