"""Expanded checkpoints from folder to gRPC answer, equal in every mode to a forward pass written from the facts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rankport.exporters.export import export
from rankport.exporters.kinds.ranker.proof.modes import MODES, measure
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.server import Server
from rankport.runtime.tokens import TokenRun
from rankport.sdk import Client
from support.checkpoints import VOCABULARY, tiny_tokenizer
from support.effort import every_run
from support.forms.control_llm_reference import ControlLlmReference
from support.forms.expanded_checkpoints import (
    HIDDEN,
    ONE_ADDED,
    ONE_PAIR,
    TWO_PAIRS,
    Layout,
    expanded_checkpoint,
)
from support.servers.serving import LOCAL

YES, NO = 4, 5
QUERY = "senior data engineer"
TITLES = ["software engineer", "chief cook", "driver of machine", "nurse"]

# What makes each worth a full export stands beside it.
EXPANSIONS: dict[str, tuple[str, str, str, Layout, dict[str, Any]]] = {
    "lerp": ("llama", "concat", "lerp", ONE_PAIR, {"norm_alpha": -1}),  # relaxed norms, a share for each
    "dlerp": ("qwen2", "concat", "dlerp", TWO_PAIRS, {"tied": True}),  # reads both answers; two pairs
    "moe": ("mistral", "concat", "moe", ONE_PAIR, {"norm_alpha": 0.3}),  # the merge chooses one answer
    "prog": ("llama", "concat", "prog", ONE_PAIR, {}),  # a product on the way out of a pair
    "experts": ("mixtral", "concat", "slerp", ONE_PAIR, {"norm_alpha": -1}),  # each layer routes on its own
    "stack": ("llama", "stack", "lerp", ONE_ADDED, {}),
}


def label_logits(folder: Path, prefix: TokenRun, items: Sequence[TokenRun]) -> NDArray[np.float32]:
    """The reference as the proof of an export calls its own: [items, labels]."""
    reference = ControlLlmReference(folder)
    rows = [reference.logits([*prefix.ids.tolist(), *item.ids.tolist()])[-1, [YES, NO]] for item in items]
    return np.stack([row.numpy() for row in rows]).astype(np.float32)


def require_equal_in_every_mode(bundle: Bundle, folder: Path) -> None:
    requests = sample_requests(VOCABULARY, HIDDEN, bundle.manifest.limits, None)
    backend = OnnxRuntimePrefixBackend(bundle)
    try:
        modes = measure(backend, [label_logits(folder, r.prefix, r.items) for r in requests], requests)
    finally:
        backend.close()
    assert len(modes) == len(MODES)
    assert max(mode.max_abs_error for mode in modes) <= 1e-4
    assert min(mode.kendall_tau for mode in modes) >= 0.999


EVERY_RUN = ("dlerp", "moe", "experts")
"""Reads both answers of two pairs; chooses by what it reads; experts. The bundle below is of a stack and a merge."""


@pytest.mark.parametrize("chosen", every_run(EXPANSIONS, EVERY_RUN))
def test_a_bundle_equals_the_reference_in_every_mode(chosen: str, tmp_path: Path) -> None:
    family, expand_type, merge_method, layout, options = EXPANSIONS[chosen]
    folder = expanded_checkpoint(tmp_path / "c", family, expand_type, merge_method, layout=layout, **options)
    bundle = export(
        folder,
        tmp_path / "b",
        kind="ranker",
        label_ids=(YES, NO),
        max_prefix_tokens=40,
        max_item_tokens=24,
    )
    assert len(bundle.manifest.shape.layers) == layout.attentions
    require_equal_in_every_mode(bundle, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slerp after a stacked layer, with a tokenizer."""
    return expanded_checkpoint(
        tmp_path_factory.mktemp("c") / "c", "qwen2", "hybrid", "slerp", tokenizer=True, seed=3
    )


@pytest.fixture(scope="module")
def bundle(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(
        folder,
        tmp_path_factory.mktemp("b") / "expanded",
        kind="ranker",
        labels=("yes", "no"),
        max_prefix_tokens=40,
        max_item_tokens=24,
    )


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[Client]:
    with (
        Ranker.load(bundle, config=EngineConfig(threads=1)) as ranker,
        Server({"expanded": ranker}, LOCAL) as server,
        Client(server.address, model="expanded", timeout_s=60) as client,
    ):
        yield client


def test_slerp_equals_the_reference_in_every_mode(bundle: Bundle, folder: Path) -> None:
    require_equal_in_every_mode(bundle, folder)


def test_a_server_answers_what_the_reference_answers(client: Client, folder: Path) -> None:
    tokenizer = tiny_tokenizer()

    def ids(text: str) -> list[int]:
        tokens: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return tokens

    prefix = TokenRun(np.array([1, *ids(QUERY)]))
    expected = label_logits(folder, prefix, [TokenRun(np.array([*ids(title), 2])) for title in TITLES])
    cold, warm = client.score(QUERY, TITLES), client.score(QUERY, TITLES)
    for result in (cold, warm):
        np.testing.assert_allclose(result.logits, expected, rtol=0, atol=1e-4)
        shares = np.exp(expected[:, 0]) / np.exp(expected).sum(axis=1)
        np.testing.assert_allclose(result.scores, shares, rtol=0, atol=1e-5)
    # Both KVs of the pair come back from the cache.
    assert cold.usage.prefix_tokens_computed == len(prefix.ids)
    assert warm.usage.prefix_tokens_cached == len(prefix.ids)


def test_an_expanded_body_exports_as_an_item_encoder(folder: Path, tmp_path: Path) -> None:
    bundle = export(folder, tmp_path / "b", kind="item-encoder", pooling="last-k", max_item_tokens=24)
    assert bundle.manifest.parity is not None
