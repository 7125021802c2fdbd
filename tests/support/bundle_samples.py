"""Small bundles for tests: consistent manifests, files of a few bytes in place of graphs, and a real tokenizer."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers

from rankport.runtime.bundle.fingerprint import fingerprint
from rankport.runtime.bundle.manifest import (
    FORMAT_NAME,
    FORMAT_VERSION,
    AxisRange,
    Embedding,
    FileEntry,
    GraphSpec,
    Labels,
    LayerKV,
    Limits,
    Manifest,
    ManifestDraft,
    ModelShape,
    Pairing,
    Prompt,
    Score,
    Segment,
    Source,
    TensorSpec,
)
from rankport.runtime.bundle.manifest_json import manifest_bytes

WORDS = ("query", ":", "red", "green", "blue", "shoes", "boots", "yes", "no", "redgreen")
SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]")
VOCAB_SIZE = len(SPECIAL) + len(WORDS)


def tokenizer_json() -> bytes:
    """A word-level tokenizer saved as trained ones often are: with truncation, padding and a template built in."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(list(SPECIAL))
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    made.enable_truncation(3)
    made.enable_padding(pad_id=3, pad_token="[PAD]", length=8)
    return made.to_str().encode()


RANKER_FILES: Mapping[str, bytes] = {
    "graphs/prefix.onnx": b"the prefix graph",
    "graphs/score.onnx": b"the score graph",
    "weights.bin": bytes(range(256)),
    "tokenizer.json": tokenizer_json(),
    "reports/parity.html": b"<p>equal</p>",
}
ENCODER_FILES: Mapping[str, bytes] = {
    "encode.onnx": b"the encode graph",
    "tokenizer.json": tokenizer_json(),
}


def ranker_draft(**changes: object) -> ManifestDraft:
    """A ranker: query in a template, items as text, ids or 2 embedding tokens of width 4."""
    prompt = Prompt(
        prefix=[
            Segment(special=["[CLS]"]),
            Segment(text="query :"),
            Segment(field="query", max_tokens=4, keep="end"),
        ],
        item=[Segment(item=True, max_tokens=4), Segment(special=["[SEP]"])],
    )
    fields: dict[str, Any] = {
        "name": "sample-ranker",
        "version": "1",
        "kind": "ranker",
        "source": _source("Qwen3ForCausalLM", "qwen3"),
        "precision": "fp32",
        "shape": ModelShape(hidden_size=4, vocab_size=VOCAB_SIZE, layers=[LayerKV(kv_heads=1, head_dim=4)]),
        "graphs": [_graph("prefix", "graphs/prefix.onnx"), _graph("score", "graphs/score.onnx")],
        "axes": {"tokens": AxisRange(min=1, max=64)},
        "tokenizer": "tokenizer.json",
        "prompt": prompt,
        "labels": Labels(source="lm_head", names=["yes", "no"], ids=[11, 12]),
        "score": Score(kind="probability", transform="softmax"),
        "limits": Limits(max_prefix_tokens=8, max_item_tokens=6),
        "embedding": Embedding(tokens=2, hidden_size=4, dtype="float16"),
        "pairing": Pairing(encoder_fingerprint="e" * 64),
        "tokenization": None,
        "parity": None,
        "quality": None,
    }
    return ManifestDraft(**(fields | changes))


def encoder_draft(**changes: object) -> ManifestDraft:
    """An item encoder of 1 mean-pooled token: [CLS] item [SEP]."""
    template = [Segment(special=["[CLS]"]), Segment(item=True), Segment(special=["[SEP]"])]
    fields: dict[str, Any] = {
        "name": "sample-encoder",
        "kind": "item-encoder",
        "source": _source("BertModel", "bert"),
        "shape": ModelShape(hidden_size=4, vocab_size=VOCAB_SIZE, layers=[]),
        "graphs": [_graph("encode", "encode.onnx")],
        "prompt": Prompt(prefix=[], item=template),
        "labels": None,
        "score": None,
        "limits": Limits(max_prefix_tokens=0, max_item_tokens=6),
        "embedding": Embedding(tokens=1, hidden_size=4, dtype="float16", pooling="mean", normalize=True),
        "pairing": None,
    }
    return ranker_draft(**(fields | changes))


def write_directory(root: Path, draft: ManifestDraft, files: Mapping[str, bytes]) -> Path:
    """A bundle directory written plainly, so that readers are tested without the writer."""
    for name, content in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (root / "manifest.json").write_bytes(manifest_bytes(manifest_of(draft, files)))
    return root


def manifest_of(draft: ManifestDraft, files: Mapping[str, bytes]) -> Manifest:
    """The whole manifest of a draft and its files."""
    entries = [
        FileEntry(path=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in sorted(files.items())
    ]
    fields = {name: getattr(draft, name) for name in ManifestDraft.model_fields}
    return Manifest(
        format=FORMAT_NAME,
        format_version=FORMAT_VERSION,
        fingerprint=fingerprint(draft, entries),
        files=entries,
        **fields,
    )


def rewrite_manifest(root: Path, change: Any) -> None:
    """Applies `change` to the manifest's JSON as a dict, in place; the fingerprint is left stale."""
    fields = json.loads((root / "manifest.json").read_bytes())
    change(fields)
    (root / "manifest.json").write_text(json.dumps(fields))


def _source(architecture: str, model_type: str) -> Source:
    return Source(
        checkpoint_sha256="c" * 64,
        architecture=architecture,
        model_type=model_type,
        dtype="float32",
        parameters=1000,
        tools={"rankport": "0.1.0"},
    )


def _graph(role: Any, file: str) -> GraphSpec:
    ids = TensorSpec(name="input_ids", dtype="int64", shape=["tokens"])
    out = TensorSpec(name="out", dtype="float32", shape=["tokens", 2])
    return GraphSpec(role=role, file=file, opset=20, inputs=[ids], outputs=[out])
