"""Models in MiniLM's shape, and passes of texts: what `encoding`, `encode_job`, `text_kinds` and `lists` measure."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig

from benchmarks.gpu.reports.energy import metered
from benchmarks.gpu.reports.figures import quantiles_ms
from benchmarks.gpu.reports.part import Part
from rankport.runtime.backends.contract import MarkedBackend, TextBackend
from rankport.runtime.tokens import TokenRun, TokenRuns

LENGTHS = (16, 64, 128)
TINY_LENGTHS = (8,)
FRAME = 2
"""Special tokens of a text."""
_ROUNDS = 7
_PASSES = 8
"""Passes in flight a round: the last one alone is waited for in full."""
_LEAST_S = 1.2
"""Of a figure on a GPU: less says nothing of its power."""
_ALONE = 103
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def minilm_shape(*, tiny: bool, **fields: Any) -> BertConfig:
    """all-MiniLM-L6-v2's, or a toy."""
    if tiny:
        return BertConfig(
            vocab_size=101,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=64,
            **fields,
        )
    return BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, **fields
    )


def save_tokenizer(folder: Path, vocabulary: int) -> None:
    """Numbers as words, one token each, between [CLS] and [SEP]."""
    names = [*_SPECIAL, *map(str, range(vocabulary - len(_SPECIAL)))]
    tokenizer = Tokenizer(
        models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def pass_rates(
    part: Part,
    backend: TextBackend,
    theirs: Callable[[torch.Tensor], torch.Tensor] | None,
    config: BertConfig,
    length: int,
    name: str = "",
) -> float:
    """Adds figures of full passes of drawn texts, as `run_rates`; returns ours."""
    texts = max(1, part.engine.max_batch_tokens // length)
    ids = np.random.default_rng(length).integers(len(_SPECIAL), config.vocab_size, (texts, length))
    label = f"{name} {length} tokens".strip()
    return run_rates(part, backend, theirs, ids, text_flops(config, length), label)


def run_rates(
    part: Part,
    backend: TextBackend | MarkedBackend,
    theirs: Callable[[torch.Tensor], torch.Tensor] | None,
    drawn: NDArray[np.int64],
    flops: float,
    label: str,
) -> float:
    """Adds texts/s of passes with share and energy, `theirs` beside them, and times of one text; returns ours.

    `drawn` are ids [texts, tokens], `flops` those of a text.
    """
    packed, texts = TokenRuns.of([TokenRun(run) for run in drawn]), len(drawn)
    ids = torch.tensor(drawn, device=part.device)

    def ours() -> None:
        for started in [backend.start(packed) for _ in range(_PASSES)]:
            started.results()

    def peer(forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        with torch.inference_mode():
            for rows in [forward(ids) for _ in range(_PASSES)]:
                rows.cpu()

    ways: dict[str, Callable[[], None]] = {"rankport": ours}
    if theirs is not None:
        ways["transformers sdpa"] = lambda: peer(theirs)
    rates: dict[str, float] = {}
    for way, run in ways.items():
        seconds, energy = _seconds(part, run, texts * _PASSES)
        rates[way] = texts * _PASSES / seconds
        share = part.share(rates[way] * flops)
        part.figures.add(f"{label}, {way}", {"texts_per_s": rates[way]} | share | energy)
    if theirs is not None:
        ratio = rates["rankport"] / rates["transformers sdpa"]
        part.figures.add(f"{label}, ratio", {"ratio": ratio, "texts_a_pass": texts})
    part.figures.add(f"{label}, one text alone", _alone(backend, packed))
    return rates["rankport"]


def text_flops(config: BertConfig, tokens: int) -> float:
    """Floating-point operations of one text of a BERT: products of its matrices, and attention among its tokens."""
    hidden = config.hidden_size
    matrices = 4 * hidden * hidden + 2 * hidden * config.intermediate_size
    return float(config.num_hidden_layers * tokens * (2 * matrices + 4 * hidden * tokens))


def _alone(backend: TextBackend | MarkedBackend, packed: TokenRuns) -> dict[str, Any]:
    """Milliseconds of a pass of one text."""
    one, seconds = packed.part(0, 1), list[float]()
    for _ in range(_ALONE):
        begun = time.perf_counter()
        backend.start(one).results()
        seconds.append(time.perf_counter() - begun)
    return quantiles_ms(seconds[3:])


def _seconds(part: Part, run: Callable[[], None], texts: int) -> tuple[float, dict[str, Any]]:
    """Median of some rounds, after two that record and tune, and the energy of so many texts a round."""
    run()
    run()
    times: list[float] = []
    with metered(part.device) as meter:
        while len(times) < _ROUNDS or (part.on_gpu and sum(times) < _LEAST_S):
            begun = time.perf_counter()
            run()
            times.append(time.perf_counter() - begun)
    return statistics.median(times), meter.figures(texts * len(times))
