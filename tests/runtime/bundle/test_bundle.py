"""`Bundle.open`: what is written opens, and nothing else does. Every refusal names the field or the file."""

import json
import os
import re
from pathlib import Path

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.bundle import is_bundle
from rankport.runtime.bundle.manifest_json import MAX_MANIFEST_BYTES, manifest_bytes, parse_manifest
from rankport.runtime.kinds.table import open_bundle
from support.bundle_refusals import refusal
from support.bundle_samples import (
    ENCODER_FILES,
    RANKER_FILES,
    encoder_draft,
    manifest_of,
    ranker_draft,
    rewrite_manifest,
    write_directory,
)

GOLDEN = Path(__file__).parent / "golden" / "manifest.json"


def test_a_ranker_opens_with_its_manifest_and_files(root: Path) -> None:
    bundle = open_bundle(root)
    assert bundle.manifest == manifest_of(ranker_draft(), RANKER_FILES)
    assert bundle.path == root
    assert {name: bundle.file(name).read_bytes() for name in RANKER_FILES} == RANKER_FILES


def test_an_item_encoder_opens(tmp_path: Path) -> None:
    assert (
        open_bundle(write_directory(tmp_path, encoder_draft(), ENCODER_FILES)).manifest.kind == "item-encoder"
    )


def test_a_link_to_a_bundle_is_resolved_once(root: Path) -> None:
    link = root.with_name("current")
    link.symlink_to(root)
    assert open_bundle(link).path == root


def test_a_path_that_is_no_text_is_refused_with_the_reason(root: Path) -> None:
    """ONNX Runtime and tokenizers take text alone: it was told of the tokenizer that it cannot be read."""
    other = root.rename(root.with_name(os.fsdecode(b"\xff")))
    with pytest.raises(BundleError, match=r"the path is not UTF-8, which what runs graphs needs: rename it"):
        open_bundle(other)


def test_a_file_that_is_not_listed_is_not_handed_out(root: Path) -> None:
    with pytest.raises(BundleError, match=r"'manifest\.json' is not in the files"):
        open_bundle(root).file("manifest.json")


def test_the_golden_manifest_is_read_and_written_to_the_same_bytes() -> None:
    assert manifest_bytes(parse_manifest(GOLDEN.read_bytes())) == GOLDEN.read_bytes()


def test_plans_belong_to_the_machine_and_are_not_looked_at(root: Path) -> None:
    (root / "plans" / "h200-10.3").mkdir(parents=True)
    (root / "plans" / "h200-10.3" / "score.plan").write_bytes(b"built here")
    open_bundle(root)


def test_a_broken_or_newer_bundle_is_still_a_bundle_but_other_directories_are_not(root: Path) -> None:
    rewrite_manifest(root, lambda fields: fields.update(format_version=9))
    assert is_bundle(root)
    (root / "manifest.json").write_text(json.dumps({"name": "some web app"}))
    assert not is_bundle(root)
    (root / "manifest.json").write_text("[" * 100_000)
    assert not is_bundle(root)
    assert not is_bundle(root / "weights.bin")


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RANKER_FILES)
def test_one_flipped_bit_in_a_file_is_found(root: Path, name: str) -> None:
    content = bytearray((root / name).read_bytes())
    content[len(content) // 2] ^= 0x10
    (root / name).write_bytes(content)
    assert re.search(f"'{name}' has sha256 [0-9a-f]{{64}}, manifest.json says", refusal(root))


@pytest.mark.parametrize("name", RANKER_FILES)
def test_a_truncated_file_is_found(root: Path, name: str) -> None:
    size = (root / name).stat().st_size
    os.truncate(root / name, size - 1)
    assert f"'{name}' has {size - 1} bytes, manifest.json says {size}" in refusal(root)


@pytest.mark.parametrize("name", RANKER_FILES)
def test_a_missing_file_is_found(root: Path, name: str) -> None:
    (root / name).unlink()
    assert f"'{name}' is listed in manifest.json but missing" in refusal(root)


@pytest.mark.parametrize(
    "name", ["extra.bin", ".hidden", "graphs/extra.onnx", "Weights.bin", "a b", "reports/x"]
)
def test_a_file_beside_the_listed_ones_is_refused(root: Path, name: str) -> None:
    (root / name).write_bytes(b"")
    assert f"'{name}' is not listed in manifest.json" in refusal(root)


@pytest.mark.parametrize("inside", [True, False])
def test_a_symbolic_link_in_place_of_a_file_is_refused(root: Path, inside: bool) -> None:
    target = root / "graphs" / "weights.bin" if inside else root.parent / "weights.bin"
    (root / "weights.bin").rename(target)
    (root / "weights.bin").symlink_to(target)
    assert "'weights.bin' is a symbolic link" in refusal(root)


def test_a_symbolic_link_in_place_of_a_directory_is_refused(root: Path) -> None:
    (root / "graphs").rename(root.parent / "elsewhere")
    (root / "graphs").symlink_to(root.parent / "elsewhere")
    assert "'graphs' is a symbolic link" in refusal(root)


def test_a_pipe_in_place_of_a_file_is_refused_without_being_read(root: Path) -> None:
    (root / "weights.bin").unlink()
    os.mkfifo(root / "weights.bin")
    assert "'weights.bin' is no regular file" in refusal(root)


def test_a_directory_in_place_of_a_file_is_refused(root: Path) -> None:
    (root / "weights.bin").unlink()
    (root / "weights.bin").mkdir()
    assert "'weights.bin' is listed in manifest.json but missing" in refusal(root)


# --- the manifest's encoding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"PK\x03\x04", "not JSON", id="zip"),
        pytest.param(b'{"format": "rankport-bundle"', "not JSON", id="cut off"),
        pytest.param(b'{"format": "\xff"}', "not JSON in UTF-8", id="not UTF-8"),
        pytest.param(b'\xef\xbb\xbf{"format": 1}', "not JSON", id="byte order mark"),
        pytest.param(b'{"parity": NaN}', "not JSON in UTF-8: NaN is not a JSON number", id="NaN"),
        pytest.param(
            b'{"parity": -Infinity}', "not JSON in UTF-8: -Infinity is not a JSON number", id="infinity"
        ),
        pytest.param(b"[" * 100_000, "nested too deeply", id="nested"),
        pytest.param(b'{"a": 1' + b"0" * 5000 + b"}", "not JSON", id="5000 digits"),
        pytest.param(b'["rankport-bundle"]', "must be a JSON object", id="list"),
        pytest.param(b"null", "must be a JSON object", id="null"),
        pytest.param(b"{}", "format: must be 'rankport-bundle', not None", id="no format"),
        pytest.param(
            b" " * (MAX_MANIFEST_BYTES + 1), f"more than {MAX_MANIFEST_BYTES} bytes", id="too large"
        ),
    ],
)
def test_a_manifest_that_is_no_strict_json_is_refused(root: Path, content: bytes, complaint: str) -> None:
    (root / "manifest.json").write_bytes(content)
    assert f"manifest.json: {complaint}" in refusal(root)


@pytest.mark.parametrize(("old", "repeated"), [('"version"', "name"), ('"vocab_size"', "hidden_size")])
def test_a_repeated_key_is_refused_at_any_depth(root: Path, old: str, repeated: str) -> None:
    text = (root / "manifest.json").read_text()
    (root / "manifest.json").write_text(text.replace(old, f'"{repeated}"', 1))
    assert f"key '{repeated}' is given twice" in refusal(root)


def test_a_directory_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    assert "no manifest.json there" in refusal(tmp_path)
    assert "no manifest.json there" in refusal(tmp_path / "absent")
    (tmp_path / "file").write_text("{}")
    assert "no manifest.json there" in refusal(tmp_path / "file")


def test_a_manifest_that_is_a_link_or_a_directory_is_refused(root: Path) -> None:
    (root / "manifest.json").rename(root.parent / "manifest.json")
    (root / "manifest.json").symlink_to(root.parent / "manifest.json")
    assert "manifest.json is no regular file" in refusal(root)
    (root / "manifest.json").unlink()
    (root / "manifest.json").mkdir()
    assert "manifest.json is no regular file" in refusal(root)


def test_a_flipped_bit_in_the_manifest_is_refused_or_changes_no_output(root: Path) -> None:
    manifest = root / "manifest.json"
    original, opened = manifest.read_bytes(), open_bundle(root).manifest
    unprotected = {"name", "version", "source"}
    for position in range(0, len(original), 7):
        flipped = bytearray(original)
        flipped[position] ^= 1 << (position % 7)
        manifest.write_bytes(flipped)
        try:
            changed = open_bundle(root).manifest
        except BundleError:
            continue
        assert changed.model_dump(exclude=unprotected) == opened.model_dump(exclude=unprotected)
