"""The words of an export's `--target`: graphs, plans, and which comma joins architectures."""

import pytest

from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.targets import ExportTargets
from rankport.protos.errors import InvalidRequest
from rankport.runtime.backends.tensorrt.build import DEFAULT_TARGETS, BuildTarget


def rtx(*architectures: str | None) -> tuple[BuildTarget, ...]:
    return (BuildTarget("tensorrt_rtx", architectures),)


GOOD: dict[str, tuple[str | tuple[str, ...], ExportTargets]] = {
    "graphs": ("onnx-cpu, onnx-cuda", ExportTargets(("onnx-cpu", "onnx-cuda"))),
    "tensorrt is graphs alone": ("tensorrt", ExportTargets(("tensorrt",))),
    "architectures": ("tensorrt-rtx:sm86,sm89", ExportTargets(("tensorrt",), rtx("sm86", "sm89"))),
    "after graphs": ("onnx-cpu,tensorrt-rtx:sm86", ExportTargets(("onnx-cpu", "tensorrt"), rtx("sm86"))),
    "before graphs": (
        "tensorrt-rtx:sm86, sm89, onnx-cpu",
        ExportTargets(("tensorrt", "onnx-cpu"), rtx("sm86", "sm89")),
    ),
    "as build takes it": ("tensorrt-rtx", ExportTargets(("tensorrt",), rtx(*DEFAULT_TARGETS))),
    "the GPU at hand": ("tensorrt-rtx:current", ExportTargets(("tensorrt",), rtx(None))),
    "graphs named too": ("tensorrt,tensorrt-rtx:sm89", ExportTargets(("tensorrt",), rtx("sm89"))),
    "in parts": (
        ("onnx-cpu", "tensorrt-rtx:sm86,sm89"),
        ExportTargets(("onnx-cpu", "tensorrt"), rtx("sm86", "sm89")),
    ),
}


@pytest.mark.parametrize("what", GOOD)
def test_words_name_graphs_and_plans(what: str) -> None:
    named, expected = GOOD[what]
    assert ExportTargets.parse(named) == expected
    options = ExportOptions(target=named)
    assert (options.targets, options.plans) == (expected.graphs, expected.plans)


def test_an_export_without_a_word_is_for_a_cpu() -> None:
    options = ExportOptions()
    assert (options.targets, options.plans) == (("onnx-cpu",), ())


BAD = {
    "": "'': use one of onnx-cpu, onnx-cuda, tensorrt, tensorrt-rtx",
    "onnx-cpu,": "'': use one of",
    "onnx-cpu:sm86": "'onnx-cpu:sm86': use one of",
    "sm86": "has 'sm86' alone: write tensorrt-rtx:sm86",
    "tensorrt-rtx,sm86": "has 'sm86' alone",
    "tensorrt-rtx:sm86,onnx-cpu,sm89": "has 'sm89' alone",
    "tensorrt-rtx:": "has no architecture ''",
    "tensorrt-rtx:sm86,sm90": "has no architecture 'sm90', only sm75",
    "tensorrt-rtx:current,sm86": "has no architecture 'current'",
    "tensorrt:sm90": "tensorrt builds for the GPU at hand alone: leave 'sm90' out",
    "tensorrt-rtx:sm86,tensorrt-rtx:sm89": "names a target twice",
}


@pytest.mark.parametrize("text", BAD)
def test_a_word_that_is_no_target_is_named(text: str) -> None:
    with pytest.raises(InvalidRequest, match=BAD[text]):
        ExportTargets.parse(text)
