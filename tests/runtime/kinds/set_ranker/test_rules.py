"""Rules of the graphs of a ranker of sets: those that gather rows of ids, and those that take what was looked up."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.fingerprint import with_own_fingerprint
from rankport.runtime.bundle.manifest import GraphSpec, Manifest, TensorSpec
from rankport.runtime.bundle.manifest_json import manifest_bytes, parse_manifest
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.kinds.set_ranker.rules import RULES

TABLES = [
    ("table.movie", "int8", ["rows.movie", 6]),
    ("scales.movie", "float32", ["rows.movie", 1]),
    ("table.user", "int8", ["rows.user", 4]),
    ("scales.user", "float32", ["rows.user", 1]),
]


@pytest.fixture
def manifest(set_bundle: Callable[..., Bundle]) -> Manifest:
    """Manifest of graphs for a CPU, and for CUDA with tables in int8."""
    bundle = set_bundle("hstu", "set-wise", "onnx-cpu,onnx-cuda")
    return bundle.manifest


def graph_of(manifest: Manifest, role: str, target: str = "onnx-cuda") -> GraphSpec:
    return next(graph for graph in manifest.graphs if (graph.role, graph.target) == (role, target))


def with_inputs(manifest: Manifest, role: str, inputs: Sequence[TensorSpec]) -> Manifest:
    """Gives the graph for CUDA of a role other inputs."""
    own = graph_of(manifest, role)
    graphs = [
        graph.model_copy(update={"inputs": list(inputs)}) if graph is own else graph
        for graph in manifest.graphs
    ]
    return with_own_fingerprint(manifest.model_copy(update={"graphs": graphs}))


def changed(manifest: Manifest, role: str, changing: str, **fields: Any) -> Manifest:
    inputs = graph_of(manifest, role).inputs
    return with_inputs(
        manifest,
        role,
        [tensor.model_copy(update=fields) if tensor.name == changing else tensor for tensor in inputs],
    )


def test_graphs_for_cuda_take_blocks_in_the_type_of_the_files(manifest: Manifest) -> None:
    """Golden: the inputs of features, by target."""
    taken = {
        (graph.target, graph.role): [
            (tensor.name, tensor.dtype, tensor.shape)
            for tensor in graph.inputs
            if tensor.name.partition("_")[0].partition(".")[0]
            in ("events", "candidates", "event", "candidate", "table", "scales")
        ]
        for graph in manifest.graphs
    }
    assert taken == {
        ("onnx-cpu", "history"): [("events", "float32", ["events", 7])],
        ("onnx-cpu", "rank"): [("candidates", "float32", ["candidates", 18])],
        ("onnx-cuda", "history"): [
            ("events", "float32", ["events", 1]),
            ("event_rows", "int32", ["events", 1]),
            *TABLES[:2],
        ],
        ("onnx-cuda", "rank"): [
            ("candidates", "float32", ["candidates", 8]),
            ("candidate_rows", "int32", ["candidates", 2]),
            *TABLES,
        ],
    }
    check_manifest(manifest, RULES)
    assert parse_manifest(manifest_bytes(manifest)) == manifest


def test_what_contradicts_is_named(manifest: Manifest) -> None:
    rank = graph_of(manifest, "rank").inputs
    looked_up = [graph_of(manifest, role, "onnx-cpu").inputs for role in ("history", "rank")]
    cases = [
        (
            changed(manifest, "rank", "candidate_rows", dtype="int64"),
            "'candidate_rows' int64 ['candidates', 2] must be int32 ['candidates', 2]",
        ),
        (
            changed(manifest, "rank", "candidates", shape=["candidates", 18]),
            "'candidates' float32 ['candidates', 18] must be float32 ['candidates', 8]",
        ),
        (
            changed(manifest, "history", "table.movie", dtype="float16"),
            "'table.movie' float16 ['rows.movie', 6] must be int8 ['rows.movie', 6]",
        ),
        (
            changed(manifest, "rank", "scales.user", shape=["rows.user", 4]),
            "'scales.user' float32 ['rows.user', 4] must be float32 ['rows.user', 1]",
        ),
        (changed(manifest, "rank", "table.user", name="table.actor"), "'table.actor' int8"),
        (
            with_inputs(manifest, "rank", [each for each in rank if each.name != "candidate_rows"]),
            "inputs: lacks 'candidate_rows'",
        ),
        # One form a target: the runtime looks ids up for all of its graphs, or for none.
        (with_inputs(manifest, "history", looked_up[0]), "'events' float32 ['events', 7] must be float32"),
        (with_inputs(manifest, "rank", looked_up[1]), "'candidates' float32 ['candidates', 18] must be"),
    ]
    for broken, message in cases:
        with pytest.raises(BundleError) as error:
            check_manifest(broken, RULES)
        assert message in str(error.value)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, r"sets\.head_weights: is empty"),
        ({"buy": 1.0}, r"sets\.head_weights: 'buy' is no head"),
        ({"click": 0.0, "like": -0.0}, r"sets\.head_weights: are all 0"),
    ],
)
def test_a_head_counts(manifest: Manifest, weights: dict[str, float], message: str) -> None:
    assert manifest.sets is not None
    sets = manifest.sets.model_copy(update={"head_weights": weights})
    with pytest.raises(BundleError, match=message):
        check_manifest(with_own_fingerprint(manifest.model_copy(update={"sets": sets})), RULES)


def test_a_table_of_keys_has_a_file_of_them(set_bundle: Callable[..., Bundle]) -> None:
    manifest = set_bundle("hstu", "set-wise", keyed=True).manifest
    check_manifest(manifest, RULES)
    assert parse_manifest(manifest_bytes(manifest)) == manifest
    assert manifest.sets is not None
    files = manifest.sets.files
    assert (files["movie"].keys, files["user"].keys) == ("tables/movie.keys", None)

    def broken(table: str, keys: str | None) -> Manifest:
        assert manifest.sets is not None
        changed = files | {table: files[table].model_copy(update={"keys": keys})}
        return manifest.model_copy(update={"sets": manifest.sets.model_copy(update={"files": changed})})

    with pytest.raises(BundleError, match=r"sets\.files\.movie\.keys: 'tables/gone\.keys' is not in files"):
        check_manifest(with_own_fingerprint(broken("movie", "tables/gone.keys")), RULES)
    for table, keys, lookup in (("movie", None, "keys"), ("user", "tables/movie.keys", "splitmix64")):
        with pytest.raises(
            BundleError, match=rf"files\.{table}\.keys goes with lookup = keys, and lookup is {lookup}"
        ):
            parse_manifest(manifest_bytes(broken(table, keys)))
