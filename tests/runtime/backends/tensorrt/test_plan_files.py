"""Engines: written whole, found by everything they depend on, and refused when they are not what was written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from rankport.protos.errors import BundleError
from rankport.runtime.backends.tensorrt.plan_files import (
    MAX_RECORD_BYTES,
    Engine,
    engine_directory,
    engines_of,
    graph_hashes,
    look_up,
    open_plan,
    write_engine,
)
from rankport.runtime.backends.tensorrt.plan_key import BuildOptions, EngineKey
from rankport.runtime.backends.tensorrt.profiles import Profile, SizeRange
from rankport.runtime.backends.tensorrt.status import engine_statuses
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.table import open_bundle
from support.bundle_samples import ENCODER_FILES, encoder_draft, write_directory

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


def key_of(bundle: Bundle, **changes: Any) -> EngineKey:
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
    return EngineKey(**(fields | changes))


@pytest.fixture
def engine(bundle: Bundle) -> Engine:
    return write_engine(bundle, key_of(bundle), PLAN)


def test_an_engine_is_written_beside_its_place_and_read_back(bundle: Bundle, engine: Engine) -> None:
    assert engine.path == bundle.path / "engines" / "sm89-tensorrt_rtx-1.7.1.116" / "encode"
    assert engines_of(bundle) == {engine.path: engine}
    found = look_up(bundle, key_of(bundle))
    assert found.engine == engine
    with open_plan(engine) as plan:
        assert plan == PLAN
    assert sorted(path.name for path in engine.path.parent.iterdir()) == ["encode"]
    assert open_bundle(bundle.path) == bundle


def test_an_engine_takes_the_place_of_an_older_one(bundle: Bundle, engine: Engine) -> None:
    newer = write_engine(bundle, key_of(bundle, options=BuildOptions(tf32=True)), memoryview(b"newer"))
    assert engines_of(bundle) == {engine.path: newer}
    assert sorted(path.name for path in engine.path.parent.iterdir()) == ["encode"]


def test_engines_of_several_gpus_lie_side_by_side(bundle: Bundle, engine: Engine) -> None:
    key = key_of(bundle, module="tensorrt", module_version="11.4.0", architecture="sm90", gpu="NVIDIA H200")
    other = write_engine(bundle, key, PLAN)
    assert other.path.parent.name == "nvidia-h200-tensorrt-11.4.0"
    assert look_up(bundle, key).engine == other
    assert look_up(bundle, key_of(bundle)).engine == engine


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
def test_a_miss_names_the_part_that_differs(part: str, bundle: Bundle, engine: Engine) -> None:
    changes, words = DIFFERENT[part]
    found = look_up(bundle, key_of(bundle, **changes))
    assert found.engine is None
    assert words in found.reason
    assert "sm89-tensorrt_rtx-1.7.1.116/encode: " in found.reason


def test_a_miss_names_the_nearest_engine_or_that_there_is_none(bundle: Bundle, engine: Engine) -> None:
    write_engine(bundle, key_of(bundle, architecture="sm86", module_version="1.6"), PLAN)
    assert look_up(bundle, key_of(bundle, architecture="sm120")).reason.startswith(
        "engines/sm89-tensorrt_rtx-1.7.1.116/encode: architecture is sm89"
    )
    assert look_up(bundle, key_of(bundle, graph="score.onnx")).reason == "none was built from score.onnx"


def test_whoever_serves_takes_an_engine_of_any_profiles_and_options(bundle: Bundle, engine: Engine) -> None:
    wanted = key_of(bundle, profiles=[], options=BuildOptions(tf32=True))
    assert look_up(bundle, wanted, ignoring=("profiles", "options")).engine == engine


@pytest.mark.parametrize(("gpu", "fits"), [("sm75", False), ("sm80", True), ("sm120", True)])
def test_a_hardware_compatible_engine_serves_ampere_and_later(bundle: Bundle, gpu: str, fits: bool) -> None:
    compatible = key_of(bundle, module="tensorrt", architecture="sm80+")
    write_engine(bundle, compatible, PLAN)
    wanted = compatible.model_copy(update={"architecture": gpu, "gpu": "NVIDIA RTX"})
    assert (look_up(bundle, wanted).engine is not None) == fits


def _spoil(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        fields = json.loads((folder / "engine.json").read_text())
        change(fields)
        (folder / "engine.json").write_text(json.dumps(fields))

    return spoil


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _link(name: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        (folder / name).rename(folder.parent.parent.parent.parent / name)
        (folder / name).symlink_to(folder.parent.parent.parent.parent / name)

    return spoil


HOSTILE_RECORDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (_write("engine.json", b"\xff{"), "not JSON in UTF-8"),
    "an array": (_write("engine.json", b"[]"), "must be a JSON object"),
    "nested": (_write("engine.json", b"[" * 100_000), "nested too deeply"),
    "large": (_write("engine.json", b" " * (MAX_RECORD_BYTES + 1)), "more than 1048576 bytes"),
    "a key twice": (_write("engine.json", b'{"format": 1, "format": 2}'), "key 'format' is given twice"),
    "unknown key": (_spoil(lambda fields: fields.update(extra=1)), "extra: unknown key"),
    "missing key": (_spoil(lambda fields: fields.pop("plan")), "plan: missing"),
    "another format": (_spoil(lambda fields: fields.update(format="x")), "format: "),
    "newer version": (_spoil(lambda fields: fields.update(format_version=2)), "format_version: "),
    "size as text": (_spoil(lambda fields: fields["plan"].update(size="1024")), "plan.size: "),
    "no hash": (_spoil(lambda fields: fields["plan"].update(sha256="../../x")), "plan.sha256: "),
    "odd architecture": (
        _spoil(lambda fields: fields["key"].update(architecture="../x")),
        "key.architecture: ",
    ),
    "unknown module": (_spoil(lambda fields: fields["key"].update(module="os")), "key.module: "),
    "falling range": (
        _spoil(lambda fields: fields["key"]["profiles"][0]["axes"]["tokens"].update(max=1)),
        "must rise from min to max",
    ),
    "a link": (_link("engine.json"), "is no regular file"),
}


@pytest.mark.parametrize("form", HOSTILE_RECORDS)
def test_a_hostile_record_is_refused_by_field(form: str, bundle: Bundle, engine: Engine) -> None:
    spoil, words = HOSTILE_RECORDS[form]
    spoil(engine.path)
    (found,) = engines_of(bundle).values()
    assert isinstance(found, BundleError)
    assert words in str(found)
    assert "engines/sm89-tensorrt_rtx-1.7.1.116/encode" in str(found)
    assert look_up(bundle, key_of(bundle)).engine is None
    assert words in look_up(bundle, key_of(bundle)).reason
    (status,) = engine_statuses(bundle)
    assert status.record is None
    assert words in status.misfit


HOSTILE_PLANS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (_write("engine.plan", bytes(PLAN)[:-1]), "has 1023 bytes, engine.json says 1024"),
    "empty": (_write("engine.plan", b""), "has 0 bytes"),
    "changed": (_write("engine.plan", bytes(1024)), "has sha256 5f70bf18"),
    "missing": (lambda folder: (folder / "engine.plan").unlink(), "cannot be read"),
    "a link": (_link("engine.plan"), "is no regular file"),
    "a pipe": (
        lambda folder: ((folder / "engine.plan").unlink(), os.mkfifo(folder / "engine.plan")),
        "is no regular file",
    ),
}


@pytest.mark.parametrize("form", HOSTILE_PLANS)
def test_a_plan_that_is_not_the_one_written_is_refused(form: str, bundle: Bundle, engine: Engine) -> None:
    spoil, words = HOSTILE_PLANS[form]
    spoil(engine.path)
    with pytest.raises(BundleError, match=words), open_plan(engine):
        pass
    (status,) = engine_statuses(bundle)
    assert words in status.misfit


def test_an_engine_behind_a_linked_directory_is_refused(
    bundle: Bundle, engine: Engine, tmp_path: Path
) -> None:
    engine.path.parent.rename(tmp_path / "elsewhere")
    engine.path.parent.symlink_to(tmp_path / "elsewhere")
    (found,) = engines_of(bundle).values()
    assert isinstance(found, BundleError)
    assert "is a symbolic link" in str(found)


def test_a_status_says_what_no_longer_fits(bundle: Bundle, engine: Engine) -> None:
    old = key_of(bundle, architecture="sm86", weights={"weights.bin": "b" * 64})
    gone = key_of(bundle, architecture="sm120", graph="other.onnx")
    for key in (old, gone):
        write_engine(bundle, key, PLAN)
    misfits = {status.path: status.misfit for status in engine_statuses(bundle)}
    assert misfits[engine.path] == ""
    assert misfits[engine_directory(bundle, old)].startswith("weights.weights.bin is bbbbbbbbbbbb…, wanted ")
    assert misfits[engine_directory(bundle, gone)] == "the bundle has no graph other.onnx"


def test_a_writer_that_fails_leaves_what_was_there(
    bundle: Bundle, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_engine(bundle, key_of(bundle), memoryview(b"newer"))
    assert engines_of(bundle) == {engine.path: engine}
    assert sorted(path.name for path in engine.path.parent.iterdir()) == ["encode"]
