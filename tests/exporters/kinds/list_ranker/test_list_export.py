"""The export of list rankers: what is proven, what the manifest says, what is claimed, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.list_ranker.graphs import list_model
from rankport.exporters.kinds.list_ranker.options import ListRankerOptions
from rankport.exporters.kinds.list_ranker.plan import list_ranker_prompt
from rankport.exporters.kinds.list_ranker.proof.stated import require_stated
from rankport.exporters.kinds.table import kind_named
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest, ParityError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.sections.lists import Marker
from support.lists.rankers import body, checkpoint, jina_checkpoint

SLIDING = {
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 64,
    "use_sliding_window": True,
}


@pytest.fixture(scope="module")
def jina_bundle(tmp_path_factory: pytest.TempPathFactory, exported: Callable[..., Bundle]) -> Bundle:
    folder = jina_checkpoint(tmp_path_factory.mktemp("jina") / "checkpoint", **SLIDING)
    return exported(folder, name="tiny-jina", kind="list-ranker", max_list_items=12)


def test_the_published_layout_is_proven_in_every_mode(jina_bundle: Bundle) -> None:
    parity = jina_bundle.manifest.parity
    assert parity is not None
    items = {mode.mode: mode.items for mode in parity.modes}
    assert items == {
        "one_item": 3,
        "one_block": 36,
        "permuted": 12,
        "several_blocks": 25,
        "truncation": 12,
        "markers": 11,
        "token_ids": 12,
    }
    assert max(mode.max_abs_error for mode in parity.modes) < 2e-6
    assert parity.reference == "JinaForRanking in torch, a block at a time as one text"


def test_a_model_that_joins_no_blocks_is_proven_within_one(
    tmp_path: Path, exported: Callable[..., Bundle]
) -> None:
    """Its longest item and prefix fill a block."""
    made = exported(
        checkpoint(tmp_path / "c", join="refuse", max_item_tokens=None, max_query_tokens=None),
        name="one-block",
        kind="list-ranker",
    )
    parity, lists = made.manifest.parity, made.manifest.lists
    assert parity is not None
    assert lists is not None
    assert (lists.join, made.manifest.limits.max_item_tokens) == ("refuse", 211)
    items = {mode.mode: mode.items for mode in parity.modes}
    assert "several_blocks" not in items
    assert items["truncation"] == 1
    assert items["one_block"] == 12


def test_the_published_layout_is_read_by_what_is_known_of_it(jina_bundle: Bundle) -> None:
    manifest = jina_bundle.manifest
    lists = manifest.lists
    assert lists is not None
    assert (lists.item_marker.token, lists.query_marker and lists.query_marker.token) == (
        "<|embed_token|>",
        "<|rerank_token|>",
    )
    assert (lists.join, lists.width, lists.max_items, lists.max_tokens) == ("mean-query", 10, 12, 1024)
    assert lists.tail[-1].mark == "query"  # what stands behind it changes nothing
    assert manifest.prompt.fields == ("query",)
    assert manifest.source.overrides == ["max_list_items"]
    assert any(
        "auto_map names code for JinaForRanking, which was not run" in note for note in manifest.source.notes
    )


@pytest.mark.parametrize(
    ("given", "noted"), [({}, True), ({"max_list_tokens": 4096}, False), ({"join": "refuse"}, False)]
)
def test_blocks_shorter_than_the_checkpoints_own_are_noted(
    given: dict[str, Any], noted: bool, tmp_path: Path
) -> None:
    given = dict(given)
    raw = json.loads(body(max_position_embeddings=16384).config.to_json_string(use_diff=False))
    raw.pop("architectures", None)
    folder = checkpoint(tmp_path / "c", body=raw, max_tokens=None, join=given.pop("join", "mean-query"))
    prompt = list_ranker_prompt(load_checkpoint(folder), ListRankerOptions(**given))
    assert (
        any("blocks end at 4096 tokens" in note and "16384 are read" in note for note in prompt.notes)
        is noted
    )


def test_order_dependence_is_measured_and_told(jina_bundle: Bundle) -> None:
    parity = jina_bundle.manifest.parity
    assert parity is not None
    order = parity.order
    assert order is not None
    assert (order.requests, order.items, order.orders) == (3, 36, 5)
    assert -1 <= order.least_kendall_tau <= order.kendall_tau < 1
    assert 0 < order.max_score_move <= 2
    assert f"a score moves by up to {order.max_score_move:.3g}" in order.in_words


def test_items_of_embedding_tokens_are_proven(list_bundle: Bundle) -> None:
    parity, manifest = list_bundle.manifest.parity, list_bundle.manifest
    assert parity is not None
    assert parity.modes[-1].mode == "embeddings"
    assert parity.modes[-1].items == 4 + 9  # in one block, and in three
    assert max(mode.max_abs_error for mode in parity.modes) < 2e-6
    assert manifest.embedding is not None
    assert (manifest.embedding.tokens, manifest.embedding.hidden_size) == (2, 24)
    (graph,) = manifest.graphs
    assert [tensor.name for tensor in graph.inputs] == ["input_ids", "marks", "embedding_rows", "embeddings"]


@pytest.mark.parametrize("make", [checkpoint, jina_checkpoint])
def test_both_forms_are_claimed(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert claimed_kind(make(tmp_path / "lists")).kind is kind_named("list-ranker")


def test_verify_proves_it_again(list_bundle: Bundle, list_checkpoint: Path) -> None:
    assert verify(list_bundle.path, list_checkpoint).failures == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"join": "mean-query"}, r"lists\.join: is mean-query, the source says independent"),
        ({"between": "\n"}, r"lists\.between: is \n, the source says "),
        ({"max_items": 5}, r"lists\.max_items: is 5, the source says 4"),
        ({"tail": []}, r"lists\.tail: is \[\], the source says"),
        (
            {"item_marker": Marker(token="<think>", id=4)},
            r"lists\.item_marker\.token: is <think>, the source",
        ),
    ],
)
def test_what_a_bundle_says_otherwise_is_told(
    changes: dict[str, object], message: str, list_bundle: Bundle, list_checkpoint: Path
) -> None:
    lists = list_bundle.manifest.lists
    assert lists is not None
    edited = list_bundle.manifest.model_copy(update={"lists": lists.model_copy(update=changes)})
    source = load_checkpoint(list_checkpoint)
    with pytest.raises(ParityError, match=message):
        require_stated(edited, list_model(source).form, source)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"target": "tensorrt"},
            "--target tensorrt: a list ranker is exported for onnx-cpu and onnx-cuda, as TensorRT runs none",
        ),
        ({"target": "onnx-cuda,tensorrt-rtx:sm89"}, "--target onnx-cuda,tensorrt: a list ranker is exported"),
        (
            {"base": "base"},
            r"--base: no adapter is merged into a list ranker here: merge it with peft's merge_and_unload",
        ),
        ({"prompt": "bare"}, "--prompt: a list ranker has no use for it, its prompt is the checkpoint's own"),
        ({"max_list_items": 0}, "--max-list-items is 0: must be a whole number from 1 on"),
        ({"embedding_tokens": 2}, "--embedding-tokens goes with --item-encoder"),
        ({"max_list_tokens": 22}, "--max-list-tokens 22: with the prompt's own .* a block does not hold"),
        ({"max_list_tokens": 5000}, "--max-list-tokens 5000: the checkpoint reads 300"),
        ({"max_item_tokens": 290}, "does not hold an item of 290 and 2 times a prefix of 20"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(
    option: dict[str, object], message: str, list_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(Exception, match=message) as refused:
        export(list_checkpoint, tmp_path / "out", kind="list-ranker", **option)
    assert type(refused.value).__name__ in ("InvalidRequest", "CheckpointError")


def test_another_kind_does_not_take_it(list_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match="RankportListRanker is a ranker of lists: use --kind list-ranker"
    ):
        export(list_checkpoint, tmp_path / "out", kind="ranker", prompt="bare")
    with pytest.raises(
        CheckpointError, match="ranks lists, read at markers: export it with --kind list-ranker"
    ):
        export(list_checkpoint, tmp_path / "out", kind="item-encoder", pooling="mean")
    with pytest.raises(InvalidRequest, match="--max-list-items belongs to --kind list-ranker, not ranker"):
        export(list_checkpoint, tmp_path / "out", kind="ranker", max_list_items=3)
