"""Every kind of model that runs on CUDA: small checkpoints, how they are exported, and requests that use all passes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rankport.exporters.kinds.list_ranker.proof.samples import draw_samples as draw_lists
from rankport.exporters.kinds.ranker.proof.modes import MODES
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.exporters.kinds.set_ranker.proof.modes import modes_of
from rankport.exporters.kinds.set_ranker.proof.samples import draw_samples as draw_sets
from rankport.exporters.kinds.texts.samples import sample_runs
from rankport.exporters.options.tolerance import Tolerance
from rankport.protos.generation import Sampling
from rankport.runtime.backends.choice import load_prefix_backend, load_text_backend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.tries.trie import TokenTrie
from rankport.runtime.kinds.list_ranker.list_ranker import ListRanker
from rankport.runtime.kinds.set_ranker.set_ranker import SetRanker
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import TokenRun, TokenRuns
from support import checkpoints, sentence_folders
from support.forms.quantized_checkpoints import compressed_tensors
from support.hybrids import hybrid
from support.lists import alone, drafts
from support.lists.rankers import checkpoint as list_checkpoint
from support.lists.rankers import jina_checkpoint
from support.reading import class_folders, pair_encoders, taggers, two_towers
from support.sets.rankers import set_checkpoint

LOW_BITS = ("int8", "int8-fine", "int4", "fp8")
HALVES = ("fp16", "bf16")
Ask = Callable[[], None]
BundleOf = Callable[[str, str], Bundle]
"""Of a kind and a form."""
CONFIG = EngineConfig(
    device="cuda",
    max_batch_tokens=256,
    max_prefill_tokens=64,
    prefix_cache_bytes=2**24,
    device_rows_bytes=2**16,
)


@dataclass(frozen=True, slots=True)
class KindOnCuda:
    """Kind in one form: its checkpoint, its export, and what asks a loaded model for all that it computes."""

    checkpoint: Callable[[Path], Path]
    asked: "Callable[[Bundle], Any]"  # a context that gives an `Ask`
    options: Mapping[str, Any] = field(default_factory=dict)
    low_bits: bool = True


def _decoder(family: str, **overrides: Any) -> Callable[[Path], Path]:
    return lambda folder: checkpoints.causal_lm(folder, family, **{"num_hidden_layers": 1, **overrides})


def _averaged(folder: Path) -> Path:
    base = checkpoints.body(folder.parent / "base", "qwen3", tokenizer=True, num_hidden_layers=1)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    content = {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    sentence_folders.write(base, "tokenizer_config.json", content)
    return class_folders.pooled_levels(base, folder, "mean")


def _towers(folder: Path) -> Path:
    module = two_towers.two_tower(
        towers={"query": two_towers.BERT, "item": two_towers.BERT},
        interactions=["cosine", "hadamard"],
        head=two_towers.MLP | {"outputs": ["clicked"], "positive": 0},
    )
    return two_towers.saved(module, folder, tokenizer=True)


@contextmanager
def _behind_prefixes(bundle: Bundle) -> Iterator[Ask]:
    manifest = bundle.manifest
    scale = 1.0 if manifest.embedding is not None else None
    shape, limits = manifest.shape, manifest.limits
    requests = sample_requests(shape.vocab_size, shape.hidden_size, limits, scale)
    backend = load_prefix_backend(bundle, CONFIG)

    def ask() -> None:
        for mode in MODES.values():
            mode(backend, requests)

    try:
        yield ask
    finally:
        backend.close()


@contextmanager
def _texts(bundle: Bundle) -> Iterator[Ask]:
    manifest = bundle.manifest
    runs = sample_runs(manifest.shape.vocab_size, manifest.max_text_tokens)
    texts = TokenRuns.of([TokenRun(run) for run in runs])
    roles = {graph.role for graph in manifest.graphs if any(one.name == "input_ids" for one in graph.inputs)}
    with ExitStack() as loaded:
        backends = [
            loaded.enter_context(closing(load_text_backend(bundle, role, CONFIG))) for role in sorted(roles)
        ]

        def ask() -> None:
            for backend in backends:
                backend.compute(texts)

        yield ask


@contextmanager
def _sets(bundle: Bundle) -> Iterator[Ask]:
    assert bundle.manifest.sets is not None
    samples, modes = draw_sets(bundle.manifest.sets), modes_of(bundle.manifest.sets.mask.policy)
    with SetRanker.load(bundle, config=CONFIG) as ranker:

        def ask() -> None:
            for mode in modes.values():
                for sample in samples:
                    mode(ranker, sample)

        yield ask


@contextmanager
def _lists(bundle: Bundle) -> Iterator[Ask]:
    samples = draw_lists(bundle.manifest, Tokenizer(drafts.raw_tokenizer()))
    with ListRanker.load(bundle, config=CONFIG) as ranker:

        def ask() -> None:
            for sample in samples:
                ranker.score(sample.fields, sample.items, truncation=sample.truncation)

        yield ask


@contextmanager
def _writing(bundle: Bundle) -> Iterator[Ask]:
    vocabulary = bundle.manifest.shape.vocab_size
    trie = TokenTrie.of(["a", "b"], np.array([[50, 51], [50, 52]]), vocabulary)
    greedy = Sampling(max_tokens=12, stop_ids=())
    drawn = Sampling(max_tokens=4, stop_ids=(), temperature=1.0, seed=1)
    with Generator.load(bundle, config=CONFIG) as generator:

        def ask() -> None:
            for sampling in (greedy, drawn):
                for prompt in ([1, 40], [1, *range(30, 60)], [5]):
                    generator.generate(prompt, sampling)
            generator.search([1, 40], trie, beams=2)
            generator.score([1, 40], [[7], [8, 9]])

        yield ask


WRITER = {"kind": "generator", "max_prefix_tokens": 64, "max_item_tokens": 32, "scores": "beginning"}
RANKER = {"kind": "ranker", "label_ids": (9, 17), "max_prefix_tokens": 40, "max_item_tokens": 24}
EMBEDDED = {"item_encoder": "0" * 64, "embedding_tokens": 2}
ENCODER = {"kind": "item-encoder", "max_item_tokens": 21}
WINDOWS = {"sliding_window": 64, "query_pre_attn_scalar": 16}
SLIDING = {
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 64,
    "use_sliding_window": True,
}

KINDS: dict[str, KindOnCuda] = {
    "ranker": KindOnCuda(_decoder("qwen3", num_hidden_layers=2), _behind_prefixes, RANKER),
    "ranker, heads of 64": KindOnCuda(_decoder("qwen3", head_dim=64), _behind_prefixes, RANKER),
    "ranker, joint, by rows": KindOnCuda(
        _decoder("qwen3"), _behind_prefixes, {**RANKER, "graphs": "joint", "attention": "shared"}
    ),
    "ranker, embedding tokens": KindOnCuda(_decoder("qwen3"), _behind_prefixes, {**RANKER, **EMBEDDED}),
    "ranker, softcap": KindOnCuda(_decoder("gemma2", head_dim=16, **WINDOWS), _behind_prefixes, RANKER),
    "ranker, partial rotary": KindOnCuda(_decoder("gpt_neox"), _behind_prefixes, RANKER),
    "ranker, fused projections": KindOnCuda(_decoder("phi3"), _behind_prefixes, RANKER),
    "ranker, gated delta rule": KindOnCuda(partial(hybrid, family="qwen3.5"), _behind_prefixes, RANKER),
    "ranker, Mamba 2 and attention": KindOnCuda(
        partial(hybrid, family="falcon-h1"), _behind_prefixes, RANKER
    ),
    "ranker, NVFP4": KindOnCuda(
        lambda folder: compressed_tensors(folder, "NVFP4", num_hidden_layers=1),
        _behind_prefixes,
        RANKER,
        low_bits=False,
    ),
    "ranker, averages": KindOnCuda(
        _averaged,
        _behind_prefixes,
        {"kind": "ranker", "positive": "high", "max_prefix_tokens": 24, "max_item_tokens": 16},
    ),
    "item-encoder": KindOnCuda(
        lambda folder: checkpoints.body(folder, "bert", num_hidden_layers=2),
        _texts,
        {**ENCODER, "pooling": "mean", "normalize": True},
    ),
    "item-encoder, last tokens": KindOnCuda(
        lambda folder: checkpoints.body(folder, "qwen3", num_hidden_layers=1),
        _texts,
        {**ENCODER, "pooling": "last-k", "tokens": 2},
    ),
    "item-encoder, gated delta rule": KindOnCuda(
        partial(hybrid, family="qwen3.5"), _texts, {**ENCODER, "pooling": "last-k", "tokens": 2}
    ),
    "cross-encoder": KindOnCuda(
        lambda folder: pair_encoders.pair_classifier(folder, num_labels=1), _texts, {"kind": "cross-encoder"}
    ),
    "cross-encoder, modernbert": KindOnCuda(
        lambda folder: pair_encoders.pair_classifier(folder, "modernbert", num_labels=1),
        _texts,
        {"kind": "cross-encoder"},
    ),
    "classifier": KindOnCuda(class_folders.level_classifier, _texts, {"kind": "classifier"}),
    "tagger": KindOnCuda(taggers.tagger_checkpoint, _texts, {"kind": "tagger", "max_item_tokens": 24}),
    "tagger, deberta": KindOnCuda(
        lambda folder: taggers.tagger_checkpoint(
            folder,
            model_type="deberta-v2",
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            max_relative_positions=-1,
            position_biased_input=False,
            type_vocab_size=0,
            position_buckets=8,
            share_att_key=True,
            norm_rel_ebd="layer_norm",
        ),
        _texts,
        {"kind": "tagger", "max_item_tokens": 24},
    ),
    "two-tower": KindOnCuda(_towers, _texts, {"kind": "two-tower"}),
    "set-ranker, LiGR": KindOnCuda(
        lambda folder: set_checkpoint(folder, "ligr", "ligr", policy="top"),
        _sets,
        {"kind": "set-ranker"},
        low_bits=False,
    ),
    "set-ranker, HSTU": KindOnCuda(
        lambda folder: set_checkpoint(folder, "hstu", "hstu"),
        _sets,
        {"kind": "set-ranker", "table_dtype": "int8"},
        low_bits=False,
    ),
    "list-ranker": KindOnCuda(list_checkpoint, _lists, {"kind": "list-ranker", **EMBEDDED}),
    "list-ranker, windows": KindOnCuda(
        lambda folder: jina_checkpoint(folder, **SLIDING),
        _lists,
        {"kind": "list-ranker", "max_list_items": 12},
    ),
    "list-ranker, items alone": KindOnCuda(alone.decoder_checkpoint, _lists, {"kind": "list-ranker"}),
    "generator": KindOnCuda(_decoder("qwen3", head_dim=32), _writing, WRITER),
    "generator, gated delta rule": KindOnCuda(
        partial(hybrid, family="qwen3.5"), _writing, {**WRITER, "stop_ids": (2,)}
    ),
    "generator, Mamba 2 and attention": KindOnCuda(
        partial(hybrid, family="falcon-h1"), _writing, {**WRITER, "stop_ids": (2,)}
    ),
}
"""By names for tests."""

_ANY = Tolerance(max_relative_error=1.0, min_kendall_tau=0.0)
"""What random models of a layer lose in few bits says nothing of the kind."""
FORMS: dict[str, dict[str, Any]] = {
    "fp32": {},
    **{half: {"precision": half, "tolerance": _ANY} for half in HALVES},
    **{f"{bits}, fp16": {"precision": "fp16", "quantize": bits, "tolerance": _ANY} for bits in LOW_BITS},
    **{bits: {"quantize": bits, "tolerance": _ANY} for bits in LOW_BITS},
}
"""Precisions and low bits that an export for CUDA offers."""


def forms_of(kind: str) -> list[str]:
    """Lists the forms that an export of the kind offers."""
    return [form for form, options in FORMS.items() if KINDS[kind].low_bits or "quantize" not in options]
