"""What a bundle computes with, in words."""

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Decoding, Generation
from rankport.sdk.cli.output.bundle.facts import manifest_facts
from rankport.sdk.cli.output.bundle.kinds import writing_facts


def test_products_of_fp8_are_told_with_the_gpus_that_have_them(encoder_bundle: Bundle) -> None:
    manifest = encoder_bundle.manifest
    on_cuda = [
        graph.model_copy(update={"target": "onnx-cuda", "precision": "fp16"}) for graph in manifest.graphs
    ]
    fp8 = [graph.model_copy(update={"fp8_products": True}) for graph in on_cuda]
    for graphs, words in (
        ([], "onnx-cpu fp32"),
        (on_cuda, "onnx-cpu fp32, onnx-cuda fp16"),
        (fp8, "onnx-cpu fp32, onnx-cuda fp16 with fp8 by fp8 (compute capability 8.9)"),
    ):
        both = manifest.model_copy(update={"graphs": [*manifest.graphs, *graphs]})
        assert dict(manifest_facts(both))["targets"] == words


def test_least_tokens_of_a_text_are_told_with_its_ends() -> None:
    said = Generation(stop_ids=[2, 7], min_tokens=3)
    assert dict(writing_facts(said))["stop ids"] == "2, 7, behind 3 tokens at least"
    answers = Generation(stop_ids=[2], decoding=Decoding(start_id=0, min_tokens=4))
    assert dict(writing_facts(answers))["stop ids"] == "2, behind 4 tokens at least"
    assert dict(writing_facts(Generation(stop_ids=[2])))["stop ids"] == "2"
