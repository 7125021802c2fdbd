"""The rules of a list ranker's manifest: its graphs take prompts, markers, and on a GPU the places of tokens."""

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.fingerprint import with_own_fingerprint
from rankport.runtime.bundle.manifest import GraphSpec, Manifest, Target, TensorSpec
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.kinds.list_ranker.rules import RULES

PLACES = TensorSpec(name="position_ids", dtype="int64", shape=["list_tokens"])


def with_graph(manifest: Manifest, **changes: object) -> Manifest:
    (graph,) = manifest.graphs
    return with_own_fingerprint(manifest.model_copy(update={"graphs": [graph.model_copy(update=changes)]}))


def inputs(graph: GraphSpec, *more: TensorSpec, without: str = "") -> list[TensorSpec]:
    return [*(tensor for tensor in graph.inputs if tensor.name != without), *more]


@pytest.mark.parametrize(
    ("target", "more"), [("onnx-cpu", ()), ("onnx-cuda", (PLACES,)), ("onnx-cuda", ())], ids=str
)
def test_a_graph_for_cuda_may_be_told_the_places_of_tokens(
    target: Target, more: tuple[TensorSpec, ...], list_bundle: Bundle
) -> None:
    (graph,) = list_bundle.manifest.graphs
    check_manifest(with_graph(list_bundle.manifest, target=target, inputs=inputs(graph, *more)), RULES)


@pytest.mark.parametrize("target", ["onnx-cpu", "onnx-cuda"])
def test_what_a_graph_takes_otherwise_is_named(target: Target, list_bundle: Bundle) -> None:
    manifest = list_bundle.manifest
    (graph,) = manifest.graphs
    lacking = with_graph(manifest, target=target, inputs=inputs(graph, without="marks"))
    with pytest.raises(
        BundleError, match=r"graphs\[0\]\.inputs: are \['embedding_rows', 'input_ids'\], must"
    ):
        check_manifest(lacking, RULES)
    narrow = graph.outputs[0].model_copy(update={"shape": ["lists", "marks", 5]})
    with pytest.raises(BundleError, match=r"must be one of float32 \['lists', 'marks', 6\], is .*5"):
        check_manifest(with_graph(manifest, target=target, outputs=[narrow]), RULES)


def test_a_graph_for_the_cpu_is_told_no_places(list_bundle: Bundle) -> None:
    (graph,) = list_bundle.manifest.graphs
    with pytest.raises(BundleError, match="position_ids"):
        check_manifest(with_graph(list_bundle.manifest, inputs=inputs(graph, PLACES)), RULES)
