"""A manifest with a changed field is refused, and the refusal names the field."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.kinds.table import open_bundle
from support.bundle_refusals import refusal
from support.bundle_samples import ENCODER_FILES, encoder_draft, rewrite_manifest, write_directory

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
    (put("prompt.item.1", {"field": "query"}), "prompt: field 'query' is used twice"),
    (put("prompt.prefix.0", {"item": True}), "prompt: prefix[0]: item = true belongs to the item's"),
    (put("prompt.prefix.0", {"field": "query"}), "prompt: field 'query' is used twice"),
]
RULE_ATTACKS: list[tuple[Change, str]] = [
    (put("queries", "as-items"), "queries: kind ranker says nothing of them here: must be null"),
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
    (lambda fields: fields["graphs"].insert(0, fields["graphs"][1] | {"onnxruntime": "1.32"}),
     "graphs[0].onnxruntime: no form of role 'score' for all versions stands before it"),
    (lambda fields: fields["graphs"].extend([fields["graphs"][1] | {"onnxruntime": "1.32"}] * 2),
     "graphs[3].onnxruntime: '1.32' stands twice for role 'score'"),
    (put("graphs.0.fp8_products", True),
     "graphs[0].fp8_products: must be false for target onnx-cpu, which has no such operator"),
    (lambda fields: fields["graphs"].append(fields["graphs"][1] | {"onnxruntime": ">=1.32"}),
     "graphs[2].onnxruntime: String should match pattern"),
    (put("tokenizer", "vocab.txt"), "tokenizer: 'vocab.txt' is not in files"),
    (put("tokenizer", None), "prompt.prefix[0]: text and special need a tokenizer"),
    (put("graphs.0.role", "encode"), "graphs: kind ranker has the roles ['prefix', 'score']"),
    (put("graphs.0.role", "score"), "graphs: kind ranker has the roles ['prefix', 'score']"),
    (put("graphs.0.inputs.0.shape", ["rows"]), "graphs[0].inputs[0].shape: axis 'rows' has no range in axes"),
    (put("shape.layers", []), "shape.layers: kind ranker must list its attention layers"),
    (put("labels", None), "labels: kind ranker needs labels"),
    (put("labels.names", ["yes"]), "labels: 1 name but 2 ids"),
    (put("labels.ids", [3, 3]), "labels: a name or an id is given twice"),
    (put("labels.ids", [3, 99]), "labels.ids[1]: 99 is out of range, must be 0 to 13"),
    (put("labels.ids", [-1, 3]), "labels.ids[0]: -1 is out of range"),
    (put("labels.positive", 2), "labels.positive: 2 is none of the 2 labels"),
    (put("labels.pad_token", 3), "labels.pad_token: an lm_head answers at the last token"),
    (put("labels", {"source": "classification_head", "names": ["a"], "ids": [0], "pad_token": 14}),
     "labels.pad_token: 14 is out of range, must be 0 to 13"),
    (put("head", {"exclusive": True, "pooling": "max"}),
     "head.pooling: is max, and kind ranker reads the last state or an average"),
    (lambda fields: fields["graphs"][0]["outputs"].append(
        {"name": "new_states", "dtype": "float32", "shape": ["prefixes", 1, "slots_per_prefix", 4]}),
     "graphs[0]: 'graphs/prefix.onnx' has new_states, and head.pooling reads none"),
    (put("score", None), "score: kind ranker says probability or logit"),
    (put("score", {"kind": "cosine", "transform": "none"}), "score: kind ranker says probability or logit"),
    (put("score.transform", "none"), "score: a probability is made by softmax or sigmoid, not by none"),
    (put("labels", {"source": "lm_head", "names": ["a"], "ids": [1]}),
     "score.transform: softmax needs labels that compete, and there is one"),
    (put("embedding", None), "pairing: belongs to a ranker that takes embedding tokens"),
    (put("embedding.pooling", "mean"), "embedding.pooling: says how tokens are made, and a ranker takes them"),
    (put("embedding.tokens", 7), "embedding.tokens: 7 do not fit limits.max_item_tokens 6"),
]  # fmt: skip
ENCODER_ATTACKS: list[tuple[Change, str]] = [
    (
        put("prompt.item.0", {"field": "query"}),
        "prompt.item[0]: field 'query' belongs to the prefix's segments: kind item-encoder reads no field with its",
    ),
    (
        put("labels", {"source": "lm_head", "names": ["a"], "ids": [1]}),
        "labels: kind item-encoder has no labels",
    ),
    (
        put("score", {"kind": "logit", "transform": "none"}),
        "score: kind item-encoder has no labels to make a logit of",
    ),
    (put("embedding", None), "embedding: kind item-encoder must say what it makes"),
    (put("embedding.pooling", None), "embedding.pooling: missing"),
    (put("embedding.normalize", None), "embedding.normalize: missing"),
    (put("pairing", {"encoder_fingerprint": "e" * 64}), "pairing: belongs to a ranker"),
    (put("prompt.prefix", [{"field": "query"}]), "prompt.prefix: kind item-encoder has no prefix"),
    (put("shape.layers", [{"kv_heads": 1, "head_dim": 4}]), "shape.layers: kind item-encoder keeps no KV"),
    (put("graphs.0.role", "score"), "graphs: kind item-encoder has the roles ['encode']"),
    (
        lambda fields: fields.update(
            queries="as-items", prompt={"prefix": [], "item": [{"text": "red"}, {"item": True}]}
        ),
        "queries: as-items, and prompt.item has a text that says what an item is: must be null",
    ),
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


def test_a_bundle_of_an_unknown_kind_is_refused_with_the_kinds_that_are_known(root: Path) -> None:
    rewrite_manifest(root, put("kind", "setwise"))
    with pytest.raises(
        InvalidRequest, match=r"kind: is 'setwise', where ranker or item-encoder or .* is looked for"
    ):
        open_bundle(root)


def test_a_newer_format_is_told_before_its_unknown_fields(root: Path) -> None:
    rewrite_manifest(root, lambda fields: fields.update(format_version=7, extra=1, graphs={}))
    assert "bundle format 7 is newer than 1: update rankport" in refusal(root)


def test_several_schema_errors_are_counted(root: Path) -> None:
    rewrite_manifest(root, lambda fields: fields.update(one=1, two=2))
    assert "one: unknown key (and 1 more)" in refusal(root)
