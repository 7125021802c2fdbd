"""The table of export kinds: names, options and whose they are, all of it before torch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.table import EXPORT_KINDS, kind_named, kinds_with, options_of
from rankport.exporters.kinds.work import work_of
from rankport.exporters.options.options import default_name
from rankport.protos.errors import InvalidRequest
from rankport.runtime.kinds.table import KINDS


def test_a_kind_has_one_spelling_in_exporters_and_runtime() -> None:
    assert [kind.name for kind in EXPORT_KINDS] == [kind.name for kind in KINDS]


def test_every_row_leads_to_its_work() -> None:
    for kind in EXPORT_KINDS:
        assert work_of(kind).measure.__module__.startswith(kind.work.rpartition(".")[0])


def test_the_table_imports_no_torch() -> None:
    check = "import sys, rankport.exporters.kinds.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_an_unknown_kind_is_named_and_the_known_are_told() -> None:
    with pytest.raises(InvalidRequest, match="kind 'reranker' is unknown: use one of ranker, item-encoder"):
        kind_named("reranker")


def test_a_ranker_of_embedding_tokens_is_told_how_it_is_asked_for() -> None:
    with pytest.raises(InvalidRequest, match="--kind ranker --item-encoder ENCODER"):
        kind_named("mix-ranker")


def test_an_option_of_another_kind_is_refused_with_that_kind() -> None:
    assert kinds_with("pooling") == ("item-encoder",)
    assert kinds_with("precision") == tuple(kind.name for kind in EXPORT_KINDS)
    with pytest.raises(InvalidRequest, match="--pooling belongs to --kind item-encoder, not ranker"):
        options_of(kind_named("ranker"), {"pooling": "mean"})


BAD: dict[str, tuple[dict[str, object], str]] = {
    "half precision on a CPU": ({"precision": "bf16"}, "--target onnx-cuda or tensorrt"),
    "unknown precision": ({"precision": "fp4"}, "use one of fp32, fp16, bf16, int8, int8-fine, int4, fp8"),
    "two recipes": (
        {"precision": "int8", "quantize": "int4"},
        "--quantize int4 and --precision int8 contradict each other",
    ),
    "low bits for several": ({"target": "onnx-cpu,onnx-cuda", "precision": "int8"}, "not quantized here"),
    "rest on a CPU": ({"precision": "bf16", "quantize": "int8"}, "--target onnx-cuda or tensorrt"),
    "fp8 products on a CPU": (
        {"quantize": "fp8", "fp8_products": True},
        "--fp8-products is for graphs of ONNX Runtime on CUDA, not of onnx-cpu: add --target onnx-cuda",
    ),
    "attention on a CPU": ({"attention": "fused"}, "--attention goes with --target onnx-cuda"),
    "unknown attention": ({"attention": "flash", "target": "onnx-cuda"}, "use one of shared, fused, grouped"),
    "unknown target": (
        {"target": "cuda"},
        "--target is 'cuda': use one of onnx-cpu, onnx-cuda, tensorrt",
    ),
    "unknown recipe": ({"quantize": "int3"}, "--quantize is 'int3': use one of int8, int8-fine, int4, fp8"),
    "calibration alone": ({"calibration": "x"}, "--calibration goes with --quantize"),
    "unknown graphs": ({"graphs": "one"}, "--graphs is 'one'"),
    "name": ({"name": "bad name"}, "--name"),
    "no whole number": ({"max_item_tokens": 4.5}, "--max-item-tokens"),
    "store alone": ({"store": "x"}, "--judged"),
    "tokens of no encoder": ({"embedding_tokens": 1}, "--embedding-tokens goes with --item-encoder"),
    "labels twice": ({"labels": ("yes",), "label_ids": (5,)}, "not both"),
    "a blank before one": ({"labels": " yes,no"}, "' yes' begins with a blank and 'no' with none"),
    "unknown option": ({"lables": ("yes",)}, "export has no option 'lables': there are name, "),
}


@pytest.mark.parametrize("what", BAD)
def test_options_that_do_not_fit_are_named(what: str) -> None:
    options, message = BAD[what]
    with pytest.raises(InvalidRequest, match=message):
        options_of(kind_named("ranker"), options)


@pytest.mark.parametrize(
    ("kind", "words", "labels"),
    [
        ("ranker", "yes, no ", ("yes", "no")),
        ("ranker", " yes, no ", (" yes", " no")),  # as tokens behind a word begin
        ("classifier", " yes, no", ("yes", "no")),  # names, no tokens
    ],
)
def test_labels_may_be_joined_by_commas(kind: str, words: str, labels: tuple[str, ...]) -> None:
    options = options_of(kind_named(kind), {"labels": words})
    assert isinstance(options, RankerOptions | ClassifierOptions)
    assert options.labels == labels


def test_low_bits_are_asked_for_by_either_option() -> None:
    both = RankerOptions(quantize="int8", precision="int8")
    alone = ItemEncoderOptions(precision="int8")
    beside = RankerOptions(quantize="int4", precision="fp16", target="onnx-cuda")
    assert [options.recipe for options in (both, alone, beside)] == ["int8", "int8", "int4"]
    assert [options.chosen_precision for options in (both, alone, beside)] == ["fp32", "fp32", "fp16"]


def test_a_name_follows_the_output_folder() -> None:
    assert default_name(Path("ünï.bundle")) == "n-"
