"""Plans: written whole, found by everything they depend on, and refused when they are not what was written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from rankport.protos.errors import BundleError
from rankport.runtime.backends.tensorrt.build_options import BuildOptions
from rankport.runtime.backends.tensorrt.plan_files import (
    MAX_RECORD_BYTES,
    StoredPlan,
    graph_hashes,
    look_up,
    open_plan,
    plan_directory,
    stored_plans,
    write_plan,
)
from rankport.runtime.backends.tensorrt.plan_key import PlanKey
from rankport.runtime.backends.tensorrt.profiles import Profile, SizeRange
from rankport.runtime.backends.tensorrt.status import check_plans
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.table import open_bundle
from support.bundle_samples import ENCODER_FILES, encoder_draft, write_directory
from support.file_limits import files_of_at_most

PLAN = memoryview(bytes(range(256)) * 4)


def _model() -> bytes:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for entry in (("location", "weights.bin"), ("offset", "0"), ("length", "16")):
        weight.external_data.add(key=entry[0], value=entry[1])
    made: onnx.ModelProto = helper.make_model(helper.make_graph([], "g", [], [], [weight]))
    return bytes(made.SerializeToString())


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    files = {**ENCODER_FILES, "encode.onnx": _model(), "weights.bin": bytes(16)}
    return open_bundle(write_directory(tmp_path / "b", encoder_draft(), files))


def key_of(bundle: Bundle, **changes: Any) -> PlanKey:
    graph_sha256, weights = graph_hashes(bundle, "encode.onnx")
    axes = {"tokens": SizeRange(min=1, opt=8, max=64)}
    fields: dict[str, Any] = {
        "graph": "encode.onnx",
        "graph_sha256": graph_sha256,
        "weights": weights,
        "module": "tensorrt_rtx",
        "module_version": "1.7.1.116",
        "architecture": "sm89",
        "gpu": None,
        "profiles": [Profile(name="latency", axes=axes, values={})],
        "options": BuildOptions(),
    }
    return PlanKey(**(fields | changes))


@pytest.fixture
def plan(bundle: Bundle) -> StoredPlan:
    return write_plan(bundle, key_of(bundle), PLAN)


def test_a_plan_is_written_beside_its_place_and_read_back(bundle: Bundle, plan: StoredPlan) -> None:
    assert plan.path == bundle.path / "plans" / "sm89-tensorrt_rtx-1.7.1.116" / "encode"
    assert stored_plans(bundle) == {plan.path: plan}
    found = look_up(bundle, key_of(bundle))
    assert found.plan == plan
    with open_plan(plan) as content:
        assert content == PLAN
    assert sorted(path.name for path in plan.path.parent.iterdir()) == ["encode"]
    assert open_bundle(bundle.path) == bundle


def test_a_plan_takes_the_place_of_an_older_one(bundle: Bundle, plan: StoredPlan) -> None:
    newer = write_plan(bundle, key_of(bundle, options=BuildOptions(tf32=True)), memoryview(b"newer"))
    assert stored_plans(bundle) == {plan.path: newer}
    assert sorted(path.name for path in plan.path.parent.iterdir()) == ["encode"]


def test_plans_of_several_gpus_lie_side_by_side(bundle: Bundle, plan: StoredPlan) -> None:
    key = key_of(bundle, module="tensorrt", module_version="11.4.0", architecture="sm90", gpu="NVIDIA H200")
    other = write_plan(bundle, key, PLAN)
    assert other.path.parent.name == "nvidia-h200-tensorrt-11.4.0"
    assert look_up(bundle, key).plan == other
    assert look_up(bundle, key_of(bundle)).plan == plan


WIDER = Profile(name="latency", axes={"tokens": SizeRange(min=1, opt=8, max=128)}, values={})
DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "graph": ({"graph_sha256": "a" * 64}, "graph_sha256 is "),
    "weights": ({"weights": {"weights.bin": "b" * 64}}, "weights.weights.bin is "),
    "module": ({"module": "tensorrt"}, "module is tensorrt_rtx, wanted tensorrt"),
    "version": ({"module_version": "1.8"}, "module_version is 1.7.1.116, wanted 1.8"),
    "architecture": ({"architecture": "sm120"}, "architecture is sm89, wanted sm120"),
    "profiles": ({"profiles": [WIDER]}, "profiles.latency.axes.tokens.max is 64, wanted 128"),
    "profile names": ({"profiles": []}, "profiles is ['latency'], wanted []"),
    "options": ({"options": BuildOptions(tf32=True)}, "options.tf32 is False, wanted True"),
}


@pytest.mark.parametrize("part", DIFFERENT)
def test_a_miss_names_the_part_that_differs(part: str, bundle: Bundle, plan: StoredPlan) -> None:
    changes, words = DIFFERENT[part]
    found = look_up(bundle, key_of(bundle, **changes))
    assert found.plan is None
    assert words in found.reason
    assert "sm89-tensorrt_rtx-1.7.1.116/encode: " in found.reason


def test_a_miss_names_the_nearest_plan_or_that_there_is_none(bundle: Bundle, plan: StoredPlan) -> None:
    write_plan(bundle, key_of(bundle, architecture="sm86", module_version="1.6"), PLAN)
    assert look_up(bundle, key_of(bundle, architecture="sm120")).reason.startswith(
        "plans/sm89-tensorrt_rtx-1.7.1.116/encode: architecture is sm89"
    )
    assert look_up(bundle, key_of(bundle, graph="score.onnx")).reason == "none was built from score.onnx"


def test_whoever_serves_takes_a_plan_of_any_profiles_and_options(bundle: Bundle, plan: StoredPlan) -> None:
    wanted = key_of(bundle, profiles=[], options=BuildOptions(tf32=True))
    assert look_up(bundle, wanted, ignoring=("profiles", "options")).plan == plan


@pytest.mark.parametrize(("gpu", "fits"), [("sm75", False), ("sm80", True), ("sm120", True)])
def test_a_hardware_compatible_plan_serves_ampere_and_later(bundle: Bundle, gpu: str, fits: bool) -> None:
    compatible = key_of(bundle, module="tensorrt", architecture="sm80+")
    write_plan(bundle, compatible, PLAN)
    wanted = compatible.model_copy(update={"architecture": gpu, "gpu": "NVIDIA RTX"})
    assert (look_up(bundle, wanted).plan is not None) == fits


def _spoil(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        fields = json.loads((folder / "plan.json").read_text())
        change(fields)
        (folder / "plan.json").write_text(json.dumps(fields))

    return spoil


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _link(name: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        (folder / name).rename(folder.parent.parent.parent.parent / name)
        (folder / name).symlink_to(folder.parent.parent.parent.parent / name)

    return spoil


HOSTILE_RECORDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (_write("plan.json", b"\xff{"), "not JSON in UTF-8"),
    "an array": (_write("plan.json", b"[]"), "must be a JSON object"),
    "nested": (_write("plan.json", b"[" * 100_000), "nested too deeply"),
    "large": (_write("plan.json", b" " * (MAX_RECORD_BYTES + 1)), "more than 1048576 bytes"),
    "a key twice": (_write("plan.json", b'{"format": 1, "format": 2}'), "key 'format' is given twice"),
    "unknown key": (_spoil(lambda fields: fields.update(extra=1)), "extra: unknown key"),
    "missing key": (_spoil(lambda fields: fields.pop("file")), "file: missing"),
    "another format": (_spoil(lambda fields: fields.update(format="x")), "format: "),
    "newer version": (_spoil(lambda fields: fields.update(format_version=2)), "format_version: "),
    "size as text": (_spoil(lambda fields: fields["file"].update(size="1024")), "file.size: "),
    "no hash": (_spoil(lambda fields: fields["file"].update(sha256="../../x")), "file.sha256: "),
    "odd architecture": (
        _spoil(lambda fields: fields["key"].update(architecture="../x")),
        "key.architecture: ",
    ),
    "unknown module": (_spoil(lambda fields: fields["key"].update(module="os")), "key.module: "),
    "falling range": (
        _spoil(lambda fields: fields["key"]["profiles"][0]["axes"]["tokens"].update(max=1)),
        "must rise from min to max",
    ),
    "a link": (_link("plan.json"), "is no regular file"),
}


@pytest.mark.parametrize("form", HOSTILE_RECORDS)
def test_a_hostile_record_is_refused_by_field(form: str, bundle: Bundle, plan: StoredPlan) -> None:
    spoil, words = HOSTILE_RECORDS[form]
    spoil(plan.path)
    (found,) = stored_plans(bundle).values()
    assert isinstance(found, BundleError)
    assert words in str(found)
    assert "plans/sm89-tensorrt_rtx-1.7.1.116/encode" in str(found)
    assert look_up(bundle, key_of(bundle)).plan is None
    assert words in look_up(bundle, key_of(bundle)).reason
    (status,) = check_plans(bundle)
    assert status.record is None
    assert words in status.misfit


HOSTILE_PLANS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (_write("plan.bin", bytes(PLAN)[:-1]), "has 1023 bytes, plan.json says 1024"),
    "empty": (_write("plan.bin", b""), "has 0 bytes"),
    "changed": (_write("plan.bin", bytes(1024)), "has sha256 5f70bf18"),
    "missing": (lambda folder: (folder / "plan.bin").unlink(), "cannot be read"),
    "a link": (_link("plan.bin"), "is no regular file"),
    "a pipe": (
        lambda folder: ((folder / "plan.bin").unlink(), os.mkfifo(folder / "plan.bin")),
        "is no regular file",
    ),
}


@pytest.mark.parametrize("form", HOSTILE_PLANS)
def test_a_plan_that_is_not_the_one_written_is_refused(form: str, bundle: Bundle, plan: StoredPlan) -> None:
    spoil, words = HOSTILE_PLANS[form]
    spoil(plan.path)
    with pytest.raises(BundleError, match=words), open_plan(plan):
        pass
    (status,) = check_plans(bundle)
    assert words in status.misfit


def test_a_plan_behind_a_linked_directory_is_refused(
    bundle: Bundle, plan: StoredPlan, tmp_path: Path
) -> None:
    plan.path.parent.rename(tmp_path / "elsewhere")
    plan.path.parent.symlink_to(tmp_path / "elsewhere")
    (found,) = stored_plans(bundle).values()
    assert isinstance(found, BundleError)
    assert "is a symbolic link" in str(found)


def test_a_status_says_what_no_longer_fits(bundle: Bundle, plan: StoredPlan) -> None:
    old = key_of(bundle, architecture="sm86", weights={"weights.bin": "b" * 64})
    gone = key_of(bundle, architecture="sm120", graph="other.onnx")
    for key in (old, gone):
        write_plan(bundle, key, PLAN)
    misfits = {status.path: status.misfit for status in check_plans(bundle)}
    assert misfits[plan.path] == ""
    assert misfits[plan_directory(bundle, old)].startswith("weights.weights.bin is bbbbbbbbbbbb…, wanted ")
    assert misfits[plan_directory(bundle, gone)] == "the bundle has no graph other.onnx"


def test_a_writer_that_fails_leaves_what_was_there(
    bundle: Bundle, plan: StoredPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_plan(bundle, key_of(bundle), memoryview(b"newer"))
    assert stored_plans(bundle) == {plan.path: plan}
    assert sorted(path.name for path in plan.path.parent.iterdir()) == ["encode"]


def test_a_full_disk_is_told_by_the_place_of_the_plan_and_leaves_nothing(bundle: Bundle) -> None:
    place = plan_directory(bundle, key_of(bundle))
    with files_of_at_most(100), pytest.raises(OSError, match="cannot be written: File too large") as failure:
        write_plan(bundle, key_of(bundle), PLAN)
    assert failure.value.filename == str(place)
    assert list(place.parent.iterdir()) == []
