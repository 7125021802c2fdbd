"""The export of two-tower checkpoints: what is proven, what the manifest says, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.table import kind_named
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest, ParityError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.two_tower.towers import Towers
from support.reading.two_towers import BERT, MLP, saved, two_tower


@pytest.fixture(scope="module")
def bert_towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One body of transformers for both sides, a cosine and a dot product."""
    module = two_tower(
        towers={"shared": BERT}, interactions=["cosine", "dot"], head=MLP, objective="pointwise"
    )
    return saved(module, tmp_path_factory.mktemp("towers") / "bert", tokenizer=True)


@pytest.fixture(scope="module")
def bert_bundle(bert_towers: Path, exported: Callable[..., Bundle]) -> Bundle:
    return exported(
        bert_towers, name="bert-towers", kind="two-tower", max_item_tokens=16, output_dtype="float16"
    )


def test_it_is_claimed_by_what_its_config_says(wide_towers: Path) -> None:
    assert claimed_kind(wide_towers).kind is kind_named("two-tower")


def test_every_way_of_serving_is_proven(wide_bundle: Bundle) -> None:
    parity = wide_bundle.manifest.parity
    assert parity is not None
    assert [mode.mode for mode in parity.modes] == [
        "query_alone",
        "query_batch",
        "item_alone",
        "item_batch",
        "score",
        "features_nan",
        "order",
        "end_to_end",
    ]
    assert max(mode.max_abs_error for mode in parity.modes) < 5e-6
    assert parity.batches is not None
    assert (parity.batches.requests, parity.batches.changed) == (6, 0)


def test_the_manifest_says_what_is_read_and_given(wide_bundle: Bundle, bert_bundle: Bundle) -> None:
    wide, bert = wide_bundle.manifest, bert_bundle.manifest
    assert [feature.name for feature in wide.wide] == ["bm25", "length", "clicks"]
    assert (wide.wide[0].scaling, wide.wide[0].mean, wide.wide[0].nan) == ("mean-std", 4.0, 0.0)
    assert wide.labels is not None
    assert (wide.labels.names, wide.labels.positive) == (["clicked", "applied"], 1)
    assert [graph.role for graph in bert.graphs] == ["represent", "score"]
    assert bert.score is not None
    assert (bert.score.kind, bert.score.transform) == ("probability", "sigmoid")
    assert (bert.limits.max_prefix_tokens, bert.limits.max_item_tokens) == (12, 16)
    assert [segment.field or segment.special for segment in bert.prompt.prefix] == [
        ["[BOS]"],
        "query",
        ["[EOS]"],
    ]
    with Towers.load(bert_bundle, config=EngineConfig(threads=1)) as towers:
        rows = towers.represent(["nurse"])  # one reading: no side is needed
        assert np.array_equal(rows, towers.represent(["nurse"], side="query"))
        result = towers.score("nurse", ["cook"])
        assert result.scores[0] == pytest.approx(1 / (1 + np.exp(-result.logits[0, 0])), abs=1e-6)


def test_verify_repeats_the_proof_and_finds_another_checkpoint(
    wide_bundle: Bundle, wide_towers: Path, bert_towers: Path
) -> None:
    verdict = verify(wide_bundle.path, wide_towers, batch_queries=40)
    assert verdict.failures == ()
    batches = verdict.proof.parity.batches
    assert batches is not None
    assert (batches.items, batches.sizes[:3], batches.changed) == (6 * 40, [1, 2, 4], 0)
    with pytest.raises(CheckpointError, match="the bundle was exported from"):
        verify(wide_bundle.path, bert_towers)


def test_float16_rows_are_proven_within_their_rounding(bert_bundle: Bundle) -> None:
    parity = bert_bundle.manifest.parity
    assert parity is not None
    assert parity.min_kendall_tau == 0.99
    assert max(mode.max_abs_error for mode in parity.modes) < 5e-6  # beyond the rounding
    with Towers.load(bert_bundle, config=EngineConfig(threads=1)) as towers:
        assert towers.encode(["nurse"]).dtype == np.float16


def test_graphs_for_gpus_are_proven_in_half_precision(
    wide_towers: Path, exported: Callable[..., Bundle]
) -> None:
    bundle = exported(wide_towers, kind="two-tower", target="onnx-cuda,tensorrt", precision="bf16")
    assert bundle.manifest.parity is not None
    assert bundle.manifest.parity.backend == "onnxruntime-cpu, half precision emulated"
    assert list(bundle.manifest.target_parity or {}) == ["tensorrt"]
    dtypes = {
        tensor.dtype
        for graph in bundle.manifest.graphs
        for tensor in (*graph.inputs, *graph.outputs)
        if tensor.dtype != "int64"
    }
    assert dtypes == {"float32"}  # representations, and all that the score takes and gives
    with pytest.raises(InvalidRequest, match="is in bf16, which a CPU does not compute in"):
        Towers.load(bundle)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_item_tokens": 25}, "--max-item-tokens 25: the towers read 24 tokens there"),
        ({"max_prefix_tokens": 13}, "--max-prefix-tokens 13: the towers read 12 tokens there"),
        ({"output_dtype": "int8"}, "--output-dtype is 'int8': use float16 or float32"),
        ({"pooling": "mean"}, "--pooling belongs to --kind item-encoder"),
    ],
)
def test_options_that_do_not_fit(
    wide_towers: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        export(wide_towers, tmp_path / "out", kind="two-tower", **options)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("[[item]]\nitem = true\n", r"two towers read the query as \[\[prefix\]\]: give it a field"),
        (
            '[[prefix]]\nfield = "query"\n[[prefix]]\ntext = "x"\n[[item]]\nitem = true\njoined = true\n',
            "leave joined out of the first",
        ),
        (
            'labels = ["yes"]\n[[prefix]]\nfield = "query"\n[[item]]\nitem = true\n',
            "name their outputs themselves: leave labels out",
        ),
    ],
)
def test_prompts_that_do_not_fit(wide_towers: Path, tmp_path: Path, prompt: str, message: str) -> None:
    file = tmp_path / "prompt.toml"
    file.write_text(prompt)
    with pytest.raises(InvalidRequest, match=message):
        export(wide_towers, tmp_path / "out", kind="two-tower", prompt=file)


def test_other_kinds_send_it_on(wide_towers: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is a two-tower, .* --kind two-tower"):
        export(wide_towers, tmp_path / "out", kind="item-encoder", pooling="mean")
    with pytest.raises(CheckpointError, match="two-tower"):
        export(wide_towers, tmp_path / "out", kind="ranker", prompt="bare")


def test_limits_beyond_the_positions_of_a_body_are_refused(tmp_path: Path) -> None:
    folder = saved(two_tower(towers={"shared": BERT}, max_item_tokens=33), tmp_path / "towers")
    with pytest.raises(
        CheckpointError, match=r"max_item_tokens 33 exceed the position encodings .*, 32 tokens"
    ):
        export(folder, tmp_path / "out", kind="two-tower")


def test_a_checkpoint_that_answers_nan_is_told(tmp_path: Path, wide_towers: Path) -> None:
    """A NaN of one's own feature is no fault of the bundle's: a checkpoint that makes one is."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(wide_towers, tmp_path / "towers")
    tensors = load_file(folder / "model.safetensors")
    tensors["head.2.bias"] += float("inf")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises((CheckpointError, ParityError), match="NaN or infinity"):
        export(folder, tmp_path / "out", kind="two-tower")
