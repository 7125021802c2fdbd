"""Sound bundles to plant faults into; exporters' fixtures, whose traces other tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mutations.fault import Subject
from rankport.runtime.bundle.bundle import Bundle
from support import checkpoints
from support.forms.quantized_checkpoints import compressed_tensors

Exported = Callable[..., Bundle]
LIMITS = {"max_prefix_tokens": 40, "max_item_tokens": 24}


@pytest.fixture(scope="session", autouse=True)
def kept(traces: object) -> None:
    """Keeps traces, which tests of exporters share."""


@pytest.fixture(scope="session")
def mix(mix_bundle: Bundle, ranker_checkpoint: Path) -> Subject:
    """A ranker of texts and embedding tokens, with a tokenizer, a prompt and two label words."""
    return Subject(mix_bundle, ranker_checkpoint)


@pytest.fixture(scope="session")
def half(ranker_checkpoint: Path, encoder_bundle: Bundle, prompt_file: Path, exported: Exported) -> Subject:
    """The same in float16."""
    bundle = exported(
        ranker_checkpoint,
        kind="ranker",
        item_encoder=encoder_bundle.path,
        prompt=prompt_file,
        max_prefix_tokens=64,
        max_item_tokens=48,
        target="tensorrt",
        precision="fp16",
    )
    return Subject(bundle, ranker_checkpoint)


@pytest.fixture(scope="session")
def gemma(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A ranker with soft-capping, sliding windows, scaled embeddings, and norms that add 1."""
    shape = {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16}
    checkpoint = checkpoints.causal_lm(tmp_path_factory.mktemp("gemma"), "gemma2", **shape)
    return Subject(exported(checkpoint, kind="ranker", label_ids=(9, 17), **LIMITS), checkpoint)


@pytest.fixture(scope="session")
def low_bit(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A ranker of 4-bit weights in groups, with zero points."""
    checkpoint = compressed_tensors(tmp_path_factory.mktemp("low-bit") / "c", "W4A16_ASYM")
    return Subject(exported(checkpoint, kind="ranker", label_ids=(4, 5), **LIMITS), checkpoint)


@pytest.fixture(scope="session")
def encoder(encoder_bundle: Bundle, encoder_checkpoint: Path) -> Subject:
    """An item encoder of one mean-pooled float16 token, bidirectional."""
    return Subject(encoder_bundle, encoder_checkpoint)
