"""Fixtures of more than one package: tiny exported bundles, made once a session."""

from pathlib import Path

import pytest

from rankport.exporters.export import export
from rankport.runtime.bundle.bundle import Bundle
from support import checkpoints

PROMPT = """
labels = ["yes", "no"]
[[prefix]]
special = ["[BOS]"]
[[prefix]]
text = "query"
[[prefix]]
field = "query"
max_tokens = 12
[[item]]
item = true
max_tokens = 16
[[item]]
special = ["[EOS]"]
"""


@pytest.fixture(scope="session")
def encoder_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bidirectional encoder with a tokenizer."""
    return checkpoints.body(tmp_path_factory.mktemp("encoder"), "bert", tokenizer=True)


@pytest.fixture(scope="session")
def encoder_bundle(encoder_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its bundle: one mean-pooled float16 token an item."""
    out = tmp_path_factory.mktemp("bundles") / "tiny-encoder"
    return export(encoder_checkpoint, out, kind="item-encoder", pooling="mean", max_item_tokens=32)


@pytest.fixture(scope="session")
def ranker_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder with a tokenizer, head_dim unequal to hidden / heads."""
    return checkpoints.causal_lm(tmp_path_factory.mktemp("ranker"), "qwen3", tokenizer=True, head_dim=20)


@pytest.fixture(scope="session")
def prompt_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompt with a literal, a field, special tokens and labels."""
    path = tmp_path_factory.mktemp("prompt") / "prompt.toml"
    path.write_text(PROMPT)
    return path


@pytest.fixture(scope="session")
def mix_bundle(
    ranker_checkpoint: Path,
    encoder_bundle: Bundle,
    prompt_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundle:
    """A ranker of embedding tokens, paired with `encoder_bundle`."""
    return export(
        ranker_checkpoint,
        tmp_path_factory.mktemp("bundles") / "tiny-mix",
        kind="ranker",
        item_encoder=encoder_bundle.path,
        prompt=prompt_file,
        max_prefix_tokens=64,
        max_item_tokens=48,
    )
