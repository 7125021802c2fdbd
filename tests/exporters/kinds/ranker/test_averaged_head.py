"""A decoder pooled by an average: its prefix is computed once, and items answer as whole texts do."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import AutoModel

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.classifier.prompt import classifier_prompt
from rankport.exporters.kinds.decoders.grouped_attention import GroupedPrefix
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.pooled import pooled_labels
from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.classifying import Classifier
from rankport.runtime.kinds.ranker.engine import Engine
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.tokens import TokenRun, TokenRuns
from support import checkpoints, sentence_folders
from support.effort import every_run, scale
from support.gpu.host_device import HostMemory, host_backend
from support.reading.class_folders import LEVELS, pooled_levels

JOB, OTHER_JOB = "senior software engineer", "nurse"
CANDIDATES = ["data engineer of the machine", "cook", "junior nurse and pilot"]
LIMITS = {"max_prefix_tokens": 24, "max_item_tokens": 16}
AVERAGES = {"mean": "mean", "mean_sqrt_len_tokens": "mean-sqrt-len", "weightedmean": "weighted-mean"}


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = checkpoints.body(
        tmp_path_factory.mktemp("b") / "base", "qwen3", tokenizer=True, num_hidden_layers=1
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    sentence_folders.write(
        base, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **special}
    )
    return base


@pytest.fixture(scope="module")
def folder(body: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pooled_levels(body, tmp_path_factory.mktemp("m") / "fit", "mean")


@pytest.fixture(scope="module")
def bundle(folder: Path, exported: Callable[..., Bundle]) -> Bundle:
    return exported(folder, kind="ranker", positive="high", **LIMITS)


@pytest.fixture(scope="module")
def by_transformers(folder: Path) -> Callable[[Sequence[int], Sequence[Sequence[int]]], NDArray[np.float32]]:
    """Logits of whole texts, padded in one batch: transformers' states, a masked mean, the folder's Dense layers."""
    model = AutoModel.from_pretrained(folder).eval()
    dense = [load_file(folder / place / "model.safetensors") for place in ("2_Dense", "3_Dense")]

    def logits(prefix: Sequence[int], items: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        texts = [[*prefix, *item] for item in items]
        longest = max(map(len, texts))
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state
            pooled = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            first, last = dense
            hidden = torch.relu(pooled @ first["linear.weight"].T + first["linear.bias"])
            rows: NDArray[np.float32] = (hidden @ last["linear.weight"].T + last["linear.bias"]).numpy()
        return rows

    return logits


def test_levels_of_candidates_behind_a_shared_job_are_those_of_whole_texts(
    bundle: Bundle, folder: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    expected = model.encode([f"{JOB} {candidate}" for candidate in CANDIDATES], batch_size=1)
    with Ranker.load(bundle) as ranker:
        first = ranker.score(JOB, CANDIDATES)
        np.testing.assert_allclose(first.logits, expected, atol=1e-5)
        again = ranker.score(JOB, CANDIDATES[:1])
        assert (again.usage.prefix_tokens_cached, again.usage.prefix_tokens_computed) == (4, 0)
        np.testing.assert_allclose(again.logits, expected[:1], atol=1e-5)
    shares = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    with Classifier.load(bundle) as classifier:
        result = classifier.classify(CANDIDATES, prefix=JOB)
        assert result.labels == LEVELS
        np.testing.assert_allclose(result.probabilities, shares, atol=1e-5)


def test_its_bundle_says_what_is_averaged_and_holds_in_every_mode(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.head is not None
    assert manifest.head.pooling == "mean"
    assert bundle.graph("prefix").outputs[-1].name == "new_states"
    assert bundle.graph("prefix").outputs[-1].shape == ["prefixes", 1, "slots_per_prefix", 32]
    assert bundle.graph("score").inputs[-1].name == "past_states"
    assert manifest.parity is not None
    assert {mode.mode.partition("/")[0] for mode in manifest.parity.modes} >= {
        "full_sequence",
        "prefix_reuse",
        "prefix_extension",
        "many_prefixes",
    }
    assert max(mode.max_abs_error for mode in manifest.parity.modes) <= 1e-5


tokens = st.integers(2, 20)
# Three tokens alone: prefixes share, extend and split one another.
prefixes = st.lists(st.integers(2, 4), max_size=24)
items = st.lists(st.lists(tokens, min_size=1, max_size=16), min_size=1, max_size=5)


@settings(max_examples=scale(8), deadline=None)
@given(
    requests=st.lists(st.tuples(prefixes, items), min_size=1, max_size=5), room=st.sampled_from([0, 8, 64])
)
def test_any_prefixes_and_items_together_answer_as_whole_texts(
    requests: list[tuple[list[int], list[list[int]]]],
    room: int,
    bundle: Bundle,
    by_transformers: Callable[[Sequence[int], Sequence[Sequence[int]]], NDArray[np.float32]],
) -> None:
    """Prefixes are computed in chunks of 5 tokens, and dropped where `room` tokens are full."""
    config = EngineConfig(
        threads=1, max_prefill_tokens=5, max_batch_tokens=48, prefix_cache_bytes=room * _token_bytes(bundle)
    )
    engine = Engine(load_prefix_backend(bundle, config), config)
    try:
        for _ in range(2):  # what was dropped is made again
            futures = [
                engine.submit(_run(prefix), TokenRuns.of([*map(_run, items)])) for prefix, items in requests
            ]
            for (prefix, items), future in zip(requests, futures, strict=True):
                expected = by_transformers(prefix, items)
                np.testing.assert_allclose(future.result(60).logits, expected, atol=1e-5)
    finally:
        engine.close()


def test_a_prefix_that_was_dropped_is_computed_again(bundle: Bundle) -> None:
    config = EngineConfig(threads=1, prefix_cache_bytes=5 * _token_bytes(bundle))
    with Ranker.load(bundle, config=config) as ranker:
        first = ranker.score(JOB, CANDIDATES)
        ranker.score(f"{OTHER_JOB} {JOB}", CANDIDATES)
        again = ranker.score(JOB, CANDIDATES)
        assert ranker.cache_stats().evictions >= 1
        assert again.usage.prefix_tokens_computed > 0
        np.testing.assert_allclose(again.logits, first.logits, atol=1e-5)


def test_what_a_prefix_keeps_is_counted(bundle: Bundle) -> None:
    with Ranker.load(bundle, config=EngineConfig(threads=1)) as ranker:
        ranker.score(JOB, CANDIDATES)
        assert ranker.cache_stats().bytes == 4 * _token_bytes(bundle)
    kv = sum(2 * 4 * layer.kv_heads * layer.head_dim for layer in bundle.manifest.shape.layers)
    assert _token_bytes(bundle) == kv + 4 * bundle.manifest.shape.hidden_size


@pytest.mark.parametrize("name", every_run(sorted(set(AVERAGES) - {"mean"}), {"weightedmean"}))
def test_other_averages_are_proven_too(
    name: str, body: Path, exported: Callable[..., Bundle], tmp_path: Path
) -> None:
    folder = pooled_levels(body, tmp_path / "fit", name)
    manifest = exported(folder, kind="ranker", positive="high", **LIMITS).manifest
    assert manifest.head is not None
    assert manifest.head.pooling == AVERAGES[name]
    assert manifest.parity is not None
    assert max(mode.max_abs_error for mode in manifest.parity.modes) <= 1e-5


FORMS = {
    "fp16, grouped": {"target": "onnx-cuda", "precision": "fp16", "attention": "grouped"},
    "bf16, products": {"target": "onnx-cuda", "precision": "bf16", "attention": "shared", "graphs": "joint"},
    "tensorrt, fp16": {"target": "tensorrt", "precision": "fp16"},
    "int8": {"quantize": "int8"},
    "int4": {"quantize": "int4"},
}


@pytest.mark.parametrize("form", every_run(FORMS, ()))
def test_states_are_kept_and_averaged_in_fp32_in_every_precision(
    form: str, folder: Path, exported: Callable[..., Bundle]
) -> None:
    manifest = exported(folder, kind="ranker", positive="high", **LIMITS, **FORMS[form]).manifest
    kept = [
        tensor
        for graph in manifest.graphs
        for tensor in (*graph.inputs, *graph.outputs)
        if tensor.name in ("past_states", "new_states")
    ]
    assert kept
    assert {tensor.dtype for tensor in kept} == {"float32"}


def test_a_device_keeps_states_beside_kv(folder: Path, exported: Callable[..., Bundle]) -> None:
    made = exported(folder, kind="ranker", positive="high", target="onnx-cuda", **LIMITS)
    cpu, device = load_prefix_backend(made, EngineConfig(threads=1)), host_backend(made, HostMemory())
    config = EngineConfig(threads=1, max_prefill_tokens=3)
    for one in (engines := [Engine(cpu, config), Engine(device, config)]):
        requests = [
            (_run([2, 3, 4, 2]), TokenRuns.of([_run([5]), _run([6, 7])])),
            (_run([2, 3]), TokenRuns.of([_run([8])])),
        ]
        answers = [one.submit(*request) for request in requests]
        if one is engines[0]:
            expected = [answer.result(60).logits for answer in answers]
        else:
            for answer, rows in zip(answers, expected, strict=True):
                np.testing.assert_allclose(answer.result(60).logits, rows, atol=1e-5)
        one.close()


def test_a_prompt_that_the_mean_leaves_out_is_refused(body: Path, tmp_path: Path) -> None:
    config = {"pooling_mode": "mean", "include_prompt": False}
    asking = {"prompts": {"fit": "item"}, "default_prompt_name": "fit"}
    folder = pooled_levels(body, tmp_path / "fit", config, **asking)  # type: ignore[arg-type]
    source = load_checkpoint(folder, head="stated")
    with pytest.raises(InvalidRequest, match=r"pools without the tokens of 'item', .* say --prompt bare"):
        pooled_labels(source, RankerOptions())
    assert pooled_labels(source, RankerOptions(prompt="bare")) is not None


def test_a_classifier_of_the_folder_says_that_a_prefix_can_be_shared(folder: Path) -> None:
    source = load_checkpoint(folder, head="stated")
    assert classifier_prompt(source, ClassifierOptions()).notes == (
        "whole sequences: a decoder that is read by mean can share a prefix among texts: --kind ranker",
    )


def _run(ids: Sequence[int]) -> TokenRun:
    return TokenRun(np.array(ids, np.int64))


def _token_bytes(bundle: Bundle) -> int:
    """Bytes that a prefix keeps of a token in fp32."""
    return sum(4 * int(output.shape[1]) * int(output.shape[3]) for output in bundle.graph("prefix").outputs)


def test_what_the_grouped_operator_leaves_behind_a_row_is_in_no_average() -> None:
    lengths = torch.tensor([3]), torch.tensor([[2, 3]])  # of the prefix, of its two rows
    grouped = GroupedPrefix(torch.Size((1, 2, 3)), lengths, [], torch.arange(6))
    states = torch.arange(1.0, 7.0)[None, None, :, None].clone()
    states[:, :, 2] = torch.nan
    assert grouped.by_slot(states).flatten().tolist() == [1, 2, 0, 4, 5, 6]
