"""Adapters from folder to gRPC answer: the bundle equals the base with the adapter merged by hand."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from rankport.exporters.checkpoints.checkpoint import checkpoint_sha256, load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.ranker.proof.modes import MODES, measure
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.server import Server
from rankport.runtime.tokens import TokenRun
from rankport.sdk import Client
from support import checkpoints
from support.forms import adapters
from support.servers.serving import LOCAL

QUERY = "senior data engineer"
TITLES = ["software engineer", "chief cook", "driver of machine", "nurse"]
SCALE = 6 / 4  # alpha / r of the adapters that `adapters` makes


def require_equal_in_every_mode(bundle: Bundle, model: nn.Module, labels: tuple[int, ...]) -> None:
    """Against full sequences through `model`, one by one."""

    def logits(prefix: TokenRun, items: Sequence[TokenRun]) -> NDArray[np.float32]:
        sequences = [torch.tensor(np.concatenate([prefix.ids, item.ids]))[None] for item in items]
        return np.stack([adapters.outputs(model, ids)[0, -1, list(labels)].numpy() for ids in sequences])

    shape = bundle.manifest.shape
    backend = OnnxRuntimePrefixBackend(bundle)
    try:
        requests = sample_requests(shape.vocab_size, shape.hidden_size, bundle.manifest.limits, None)
        modes = measure(backend, [logits(one.prefix, one.items) for one in requests], requests)
    finally:
        backend.close()
    assert len(modes) == len(MODES)
    assert max(mode.max_abs_error for mode in modes) <= 1e-4
    assert min(mode.kendall_tau for mode in modes) >= 0.999


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied base in bf16, as published ones are, with a tokenizer."""
    folder = tmp_path_factory.mktemp("base") / "base"
    checkpoints.causal_lm(folder, "qwen3", tokenizer=True, head_dim=20, tie_word_embeddings=True)
    file = folder / "model.safetensors"
    halved = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(file).items()}
    save_file(halved, file, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapters.lora(tmp_path_factory.mktemp("adapter") / "lora", base, task_type="CAUSAL_LM").folder


@pytest.fixture(scope="module")
def bundle(adapter: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(
        adapter,
        tmp_path_factory.mktemp("bundle") / "adapted",
        kind="ranker",
        base=base,
        labels=("yes", "no"),
        max_prefix_tokens=40,
        max_item_tokens=24,
    )


def test_a_bundle_of_an_adapter_equals_the_merge_by_hand(bundle: Bundle, base: Path, adapter: Path) -> None:
    require_equal_in_every_mode(bundle, adapters.merged_by_hand(base, adapter, SCALE), (4, 5))


def test_the_manifest_names_the_adapter_and_the_base_it_went_into(bundle: Bundle, base: Path) -> None:
    merged = bundle.manifest.source.adapter
    assert merged is not None
    assert (merged.type, merged.rank, merged.alpha) == ("LORA", 4, 6)
    assert merged.target_modules == ["down_proj", "q_proj", "v_proj"]
    assert merged.base == base.name  # no path of the exporting machine
    assert merged.base_sha256 == checkpoint_sha256(base)


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[Client]:
    with (
        Ranker.load(bundle, config=EngineConfig(threads=1)) as ranker,
        Server({"ranker": ranker}, LOCAL) as server,
        Client(server.address, model="ranker") as client,
    ):
        yield client


def test_over_grpc_comes_what_the_merged_model_answers(
    client: Client, bundle: Bundle, base: Path, adapter: Path
) -> None:
    result = client.score({"prefix": QUERY}, TITLES)
    tokenizer = checkpoints.tiny_tokenizer()
    model = adapters.merged_by_hand(base, adapter, SCALE)
    for title, answered in zip(TITLES, result.logits, strict=True):
        # The default prompt: one field and the bare item in the tokenizer's frame.
        words = tokenizer.encode(f"{QUERY} {title}").ids
        expected = adapters.outputs(model, torch.tensor([words]))[0, -1, [4, 5]].numpy()
        np.testing.assert_allclose(answered, expected, atol=1e-4)


def test_a_qlora_adapter_with_new_tokens_scores_by_tokens_that_its_base_lacks(
    base: Path, tmp_path: Path
) -> None:
    trained = adapters.lora(
        tmp_path / "qlora",
        base,
        vocabulary=checkpoints.VOCABULARY + 24,
        modules_to_save=["embed_tokens", "lm_head"],
        use_rslora=True,
        target_modules="all-linear",
    )
    labels = (checkpoints.VOCABULARY + 3, checkpoints.VOCABULARY + 23)
    limits = {"max_prefix_tokens": 40, "max_item_tokens": 24}
    bundle = export(trained.folder, tmp_path / "bundle", kind="ranker", label_ids=labels, **limits)
    assert bundle.manifest.shape.vocab_size == checkpoints.VOCABULARY + 24
    require_equal_in_every_mode(bundle, adapters.merged_by_hand(base, trained.folder, 6 / 4**0.5), labels)
    with pytest.raises(InvalidRequest, match=r"token 125, outside the vocabulary of 125 tokens"):
        export(trained.folder, tmp_path / "beyond", kind="ranker", label_ids=(4, 125), **limits)


def test_the_hash_of_an_adapted_checkpoint_covers_adapter_and_base(base: Path, tmp_path: Path) -> None:
    adapter = adapters.lora(tmp_path / "adapter", base).folder
    first = load_checkpoint(adapter, base=base).sha256
    assert load_checkpoint(adapter, base=base).sha256 == first
    other = checkpoints.causal_lm(tmp_path / "other", "qwen3", head_dim=20, tie_word_embeddings=True)
    assert load_checkpoint(adapter, base=other).sha256 != first
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    adapters.edit_tensors(adapter, {name: adapters.stored(adapter)[name] + 1})
    assert load_checkpoint(adapter, base=base).sha256 != first
