"""`Bundle.open`: what is written opens, and nothing else does. Every refusal names the field or the file."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rankport.protos.errors import BundleError, InvalidRequest
from rankport.runtime.bundle.bundle import is_bundle
from rankport.runtime.bundle.manifest_json import MAX_MANIFEST_BYTES, manifest_bytes, parse_manifest
from rankport.runtime.kinds.table import open_bundle
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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A ranker bundle that opens."""
    return write_directory(tmp_path / "bundle", ranker_draft(), RANKER_FILES)


def refusal(root: Path) -> str:
    """The message with which `root` is refused."""
    with pytest.raises(BundleError) as caught:
        open_bundle(root)
    assert str(root) in str(caught.value)
    return str(caught.value)


def test_a_bundle_of_an_unknown_kind_is_refused_with_the_kinds_that_are_known(root: Path) -> None:
    rewrite_manifest(root, put("kind", "setwise"))
    with pytest.raises(
        InvalidRequest, match="kind: is 'setwise', where ranker or item-encoder is looked for"
    ):
        open_bundle(root)


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


def test_a_file_that_is_not_listed_is_not_handed_out(root: Path) -> None:
    with pytest.raises(BundleError, match=r"'manifest\.json' is not in the files"):
        open_bundle(root).file("manifest.json")


def test_the_golden_manifest_is_read_and_written_to_the_same_bytes() -> None:
    assert manifest_bytes(parse_manifest(GOLDEN.read_bytes())) == GOLDEN.read_bytes()


def test_plans_belong_to_the_machine_and_are_not_looked_at(root: Path) -> None:
    (root / "plans" / "h200-10.3").mkdir(parents=True)
    (root / "plans" / "h200-10.3" / "score.plan").write_bytes(b"built here")
    open_bundle(root)


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


# --- the manifest's fields ------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], Any]


def put(path: str, value: object) -> Change:
    """Sets `a.0.b` of the manifest."""

    def change(fields: Any) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        for part in parents:
            fields = fields[part]
        fields[last] = value

    return change


def drop(path: str) -> Change:
    """Removes the top-level field `path`."""
    return lambda fields: fields.pop(path)


SCHEMA_ATTACKS: list[tuple[Change, str]] = [
    (put("format", "rankport-bundel"), "format: must be 'rankport-bundle'"),
    (put("format_version", 2), "format_version: bundle format 2 is newer than 1: update rankport"),
    (put("format_version", 0), "format_version: must be an integer from 1, not 0"),
    (put("format_version", True), "format_version: must be an integer from 1, not True"),
    (put("format_version", "1"), "format_version: must be an integer from 1, not '1'"),
    (put("extra", 1), "extra: unknown key"),
    (put("source.extra", 1), "source.extra: unknown key"),
    (put("graphs.1.inputs.0.extra", 1), "graphs[1].inputs[0].extra: unknown key"),
    (put("prompt.prefix.2.maximum", 1), "prompt.prefix[2].maximum: unknown key"),
    (put("files.3.mode", "0777"), "files[3].mode: unknown key"),
    (drop("prompt"), "prompt: missing"),
    (drop("quality"), "quality: missing"),
    (
        put("graphs.0.inputs.0.dtype", "float8"),
        "graphs[0].inputs[0].dtype: Input should be 'float32', 'float16'",
    ),
    (
        put("embedding.dtype", "float64"),
        "embedding.dtype: Input should be 'float16' or 'float32', got 'float64'",
    ),
    (put("precision", "fp8"), "precision: Input should be 'fp32', 'fp16' or 'bf16', got 'fp8'"),
    (put("shape.hidden_size", "4"), "shape.hidden_size: Input should be a valid integer, got '4'"),
    (put("shape.vocab_size", 0), "shape.vocab_size: Input should be greater than 0, got 0"),
    (put("name", "../sample"), "name: String should match pattern"),
    (put("version", "1\ud800"), "half of a character at the end of"),
    (put("source.tools", {"\udc00": "1"}), "half of a character at the end of"),
    (put("files.0.sha256", "F" * 64), "files[0].sha256: String should match pattern"),
    (put("files.0.size", -1), "files[0].size: Input should be greater than or equal to 0, got -1"),
    (put("axes.tokens", {"min": 9, "max": 3}), "axes.tokens: min 9 is above max 3"),
    (put("prompt.prefix.2.text", "and"), "prompt.prefix[2]: needs exactly one of text, special, field, item"),
    (put("prompt.item.0.item", False), "prompt.item[0]: item is False"),
    (put("prompt.item.1", {"text": ""}), "prompt.item[1]: text is ''"),
    (put("prompt.item.1", {"text": "a", "max_tokens": 3}), "prompt.item[1]: max_tokens and keep go with"),
    (put("prompt.item", []), "prompt: item needs exactly one segment with item = true, has 0"),
    (put("prompt.item.1", {"item": True}), "prompt: item needs exactly one segment with item = true, has 2"),
    (put("prompt.item.1", {"field": "query"}), "prompt: item[1]: field 'query' belongs to the prefix's"),
    (put("prompt.prefix.0", {"item": True}), "prompt: prefix[0]: item = true belongs to the item's"),
    (put("prompt.prefix.0", {"field": "query"}), "prompt: prefix: field 'query' is used twice"),
]

RULE_ATTACKS: list[tuple[Change, str]] = [
    (put("fingerprint", "0" * 64), "fingerprint: " + "0" * 64 + " is stated, but"),
    (put("limits.max_item_tokens", 5), "fingerprint: "),
    (put("files.0.path", "../weights.bin"), "files[0].path: '../weights.bin' must not hold '.' or '..'"),
    (put("files.0.path", "graphs/../../x"), "files[0].path: 'graphs/../../x' must not hold '.' or '..'"),
    (put("files.0.path", "./weights.bin"), "files[0].path: './weights.bin' must not hold '.' or '..'"),
    (put("files.0.path", "/etc/passwd"), "files[0].path: '/etc/passwd' must be names of"),
    (put("files.0.path", "graphs//x"), "files[0].path: 'graphs//x' must be names of"),
    (put("files.0.path", "graphs/"), "files[0].path: 'graphs/' must be names of"),
    (put("files.0.path", ""), "files[0].path: '' must be names of"),
    (put("files.0.path", "..\\x"), "files[0].path: '..\\\\x' must be names of"),
    (put("files.0.path", "C:x"), "files[0].path: 'C:x' must be names of"),
    (put("files.0.path", "x\x00.bin"), "files[0].path: 'x\\x00.bin' must be names of"),
    (put("files.0.path", "x.bin\n"), "files[0].path: 'x.bin\\n' must be names of"),
    (put("files.0.path", "wéights"), "files[0].path: 'wéights' must be names of"),
    (put("files.0.path", "x" * 256), "files[0].path: '" + "x" * 256 + "' has 256 characters, more than 255"),
    (put("files.0.path", "manifest.json"), "files[0].path: 'manifest.json' must not be the manifest itself"),
    (put("files.0.path", "plans/a"), "files[0].path: 'plans/a' must not lie in plans/"),
    (put("files.0.path", "weights.bin"), "files[4].path: 'weights.bin' is listed twice, also as 'weights.bin'"),
    (put("files.0.path", "WEIGHTS.bin"), "files[4].path: 'weights.bin' is listed twice, also as 'WEIGHTS.bin'"),
    (put("graphs.0.file", "../other.onnx"), "graphs[0].file: '../other.onnx' is not in files"),
    (put("tokenizer", "graphs/score.onnx"), "tokenizer: 'graphs/score.onnx' has more than one use"),
    (
        lambda fields: (
            put("graphs.1.file", "graphs/prefix.onnx")(fields),
            put("graphs.1.inputs.0.name", "other")(fields),
        ),
        "graphs[1].inputs: 'graphs/prefix.onnx' has other inputs as role 'prefix'",
    ),
    (put("tokenizer", "vocab.txt"), "tokenizer: 'vocab.txt' is not in files"),
    (put("tokenizer", None), "prompt.prefix[0]: text and special need a tokenizer"),
    (put("graphs.0.role", "encode"), "graphs: kind ranker has the roles ['prefix', 'score']"),
    (put("graphs.0.role", "score"), "graphs: kind ranker has the roles ['prefix', 'score']"),
    (put("graphs.0.inputs.0.shape", ["rows"]), "graphs[0].inputs[0].shape: axis 'rows' has no range in axes"),
    (put("shape.layers", []), "shape.layers: kind ranker must list its attention layers"),
    (put("labels", None), "labels: kind ranker needs labels"),
    (put("labels.names", ["yes"]), "labels: 1 names but 2 ids"),
    (put("labels.ids", [3, 3]), "labels: a name or an id is given twice"),
    (put("labels.ids", [3, 99]), "labels.ids[1]: 99 is out of range, must be 0 to 13"),
    (put("labels.ids", [-1, 3]), "labels.ids[0]: -1 is out of range"),
    (put("embedding", None), "pairing: belongs to a ranker that takes embedding tokens"),
    (put("embedding.pooling", "mean"), "embedding.pooling: says how tokens are made, and a ranker takes them"),
    (put("embedding.tokens", 7), "embedding.tokens: 7 do not fit limits.max_item_tokens 6"),
]  # fmt: skip

ENCODER_ATTACKS: list[tuple[Change, str]] = [
    (
        put("labels", {"source": "lm_head", "names": ["a"], "ids": [1]}),
        "labels: kind item-encoder has no labels",
    ),
    (put("embedding", None), "embedding: kind item-encoder must say what it makes"),
    (put("embedding.pooling", None), "embedding.pooling: missing"),
    (put("embedding.normalize", None), "embedding.normalize: missing"),
    (put("pairing", {"encoder_fingerprint": "e" * 64}), "pairing: belongs to a ranker"),
    (put("prompt.prefix", [{"field": "query"}]), "prompt.prefix: kind item-encoder has no prefix"),
    (put("shape.layers", [{"kv_heads": 1, "head_dim": 4}]), "shape.layers: kind item-encoder keeps no KV"),
    (put("graphs.0.role", "score"), "graphs: kind item-encoder has the roles ['encode']"),
]


@pytest.mark.parametrize(("change", "complaint"), SCHEMA_ATTACKS + RULE_ATTACKS)
def test_a_changed_ranker_manifest_is_refused_by_field(root: Path, change: Change, complaint: str) -> None:
    rewrite_manifest(root, change)
    assert f"manifest.json: {complaint}" in refusal(root)


@pytest.mark.parametrize(("change", "complaint"), ENCODER_ATTACKS)
def test_a_changed_encoder_manifest_is_refused_by_field(
    tmp_path: Path, change: Change, complaint: str
) -> None:
    root = write_directory(tmp_path / "bundle", encoder_draft(), ENCODER_FILES)
    rewrite_manifest(root, change)
    assert f"manifest.json: {complaint}" in refusal(root)


def test_a_newer_format_is_told_before_its_unknown_fields(root: Path) -> None:
    rewrite_manifest(root, lambda fields: fields.update(format_version=7, extra=1, graphs={}))
    assert "bundle format 7 is newer than 1: update rankport" in refusal(root)


def test_several_schema_errors_are_counted(root: Path) -> None:
    rewrite_manifest(root, lambda fields: fields.update(one=1, two=2))
    assert "one: unknown key (and 1 more)" in refusal(root)


def test_a_broken_or_newer_bundle_is_still_a_bundle_but_other_directories_are_not(root: Path) -> None:
    rewrite_manifest(root, lambda fields: fields.update(format_version=9))
    assert is_bundle(root)
    (root / "manifest.json").write_text(json.dumps({"name": "some web app"}))
    assert not is_bundle(root)
    (root / "manifest.json").write_text("[" * 100_000)
    assert not is_bundle(root)
    assert not is_bundle(root / "weights.bin")
