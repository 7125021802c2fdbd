"""Small taggers: bundles over a backend that knows each token's label, and checkpoints on disk."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from rankport.runtime.backends.contract import Started
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import (
    GraphSpec,
    Labels,
    Limits,
    ManifestDraft,
    ModelShape,
    Prompt,
    Segment,
    Tagging,
    TensorSpec,
)
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.replicas import Replicas
from rankport.runtime.kinds.table import open_bundle
from rankport.runtime.kinds.tagger.decoder import Decoder
from rankport.runtime.kinds.tagger.labels import LabelScheme
from rankport.runtime.kinds.tagger.reading import TextReader
from rankport.runtime.kinds.tagger.tagger import Tagger
from rankport.runtime.kinds.text_engine import TextEngine
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import TokenRuns
from support.bundle_samples import encoder_draft, write_directory
from support.text_tokenizers import saved

NAMES = ("O", "B-city", "I-city", "B-food", "I-food")
FRAME = ("[CLS]", "[SEP]")
LINES = (
    "a table in New York or Ghent for two",
    "sushi and pommes frites, please!",
    "Zürich café İzmir ﬁsh ① 東京",
    "👩‍🍳 cooks 🍣 in São Paulo",
    "the of and to in is on that by this with",
)


def tokenizer_json(kind: str = "word-piece") -> str:
    """A tokenizer of that kind with a frame."""
    return saved(kind, LINES, special=FRAME)


def tagger_draft(names: Sequence[str] = NAMES, **changes: object) -> ManifestDraft:
    """A tagger of words: [CLS] text [SEP], 12 tokens at most."""
    ids = TensorSpec(name="input_ids", dtype="int64", shape=["items", "item_tokens"])
    out = TensorSpec(name="logits", dtype="float32", shape=["items", "item_tokens", len(names)])
    first, last = ([Segment(special=[name])] for name in FRAME)
    fields: dict[str, Any] = {
        "name": "sample-tagger",
        "kind": "tagger",
        "shape": ModelShape(hidden_size=4, vocab_size=1000, layers=[]),
        "graphs": [GraphSpec(role="tag", file="tag.onnx", opset=21, inputs=[ids], outputs=[out])],
        "axes": {axis: {"min": 1, "max": 64} for axis in ("items", "item_tokens")},
        "prompt": Prompt(prefix=[], item=[*first, Segment(item=True), *last]),
        "labels": Labels(source="token_head", names=list(names), ids=list(range(len(names)))),
        "tagging": Tagging(scheme=LabelScheme.of(names).scheme, unit="word"),
        "limits": Limits(max_prefix_tokens=0, max_item_tokens=12),
        "embedding": None,
    }
    return encoder_draft(**(fields | changes))


def tagger_bundle(
    folder: Path, kind: str = "word-piece", files: Mapping[str, bytes] | None = None, **changes: object
) -> Bundle:
    """Writes a bundle with a graph that no runtime could load."""
    content = {"tag.onnx": b"a graph", "tokenizer.json": tokenizer_json(kind).encode(), **(files or {})}
    return open_bundle(write_directory(folder / "bundle", tagger_draft(**changes), content))  # type: ignore[arg-type]


class LabelledTokens:
    """Backend of tokens whose labels are known: logits of 3 for it, less for the next ones. Keeps the runs."""

    def __init__(self, labels: Mapping[int, int], count: int = len(NAMES)) -> None:
        self.labels, self.count = labels, count
        self.runs: list[list[int]] = []

    def compute(self, texts: TokenRuns) -> NDArray[np.float32]:
        self.runs += [run.ids.tolist() for run in texts]
        rows = np.zeros((len(texts.ids), self.count), np.float32)
        rows[np.arange(len(texts.ids)), [self.labels.get(token, 0) for token in texts.ids.tolist()]] = 3
        return rows

    def start(self, texts: TokenRuns) -> Started[np.floating]:
        rows = self.compute(texts)
        return Started(lambda: rows, done=True)

    def close(self) -> None:
        pass


def tagger_of(bundle: Bundle, backend: LabelledTokens, config: EngineConfig = DEFAULTS) -> Tagger:
    """Makes a tagger over a backend."""
    assert bundle.manifest.tokenizer is not None
    reader = TextReader(bundle.manifest, Tokenizer.from_file(bundle.file(bundle.manifest.tokenizer)))
    engine = TextEngine(backend, config, role="tag", row_of="token")
    return Tagger(bundle.manifest, reader, Decoder.from_bundle(bundle), Replicas({0: engine}))


def labels_of(kind: str, words: Mapping[str, str], names: Sequence[str] = NAMES) -> dict[int, int]:
    """Labels the first token of each word: word -> label."""
    inner = tokenizers.Tokenizer.from_str(tokenizer_json(kind))
    return {
        inner.encode(word, add_special_tokens=False).ids[0]: names.index(label)
        for word, label in words.items()
    }


def tagger_checkpoint(
    folder: Path,
    names: Sequence[str] = NAMES,
    *,
    model_type: str = "bert",
    tokenizer: str = "word-piece",
    **overrides: Any,
) -> Path:
    """A random ...ForTokenClassification of one layer."""
    import transformers

    from support.checkpoints import save

    sizes = {"num_hidden_layers": 1, "vocab_size": 700, "id2label": dict(enumerate(names))}
    ids = {"label2id": {name: index for index, name in enumerate(names)}}
    auto = transformers.AutoModelForTokenClassification
    save(folder, auto, model_type, False, {**sizes, **ids, **overrides})
    (folder / "tokenizer.json").write_text(framed(tokenizer))
    return folder


def framed(kind: str) -> str:
    """A tokenizer that frames a text by itself."""
    inner = tokenizers.Tokenizer.from_str(tokenizer_json(kind))
    places = [(name, inner.token_to_id(name)) for name in FRAME]
    inner.post_processor = tokenizers.processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"{FRAME[0]} $A {FRAME[1]}", special_tokens=places
    )
    return str(inner.to_str())


def write_crf(folder: Path, tables: Mapping[str, NDArray[np.float32]], **stated: object) -> None:
    """Puts a CRF beside a checkpoint's weights."""
    from safetensors.numpy import save_file

    save_file(dict(tables), folder / "crf.safetensors")
    (folder / "crf.json").write_text(json.dumps(stated))


def random_crf(
    labels: Iterable[str], max_segment: int | None = None, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Draws the tables of a CRF over these labels."""
    rng, count = np.random.default_rng(seed), len(list(labels))
    sizes: dict[str, tuple[int, ...]] = {"transitions": (count, count), "start": (count,), "end": (count,)}
    if max_segment is not None:
        sizes["lengths"] = (count, max_segment)
    return {name: rng.normal(size=size).astype(np.float32) for name, size in sizes.items()}
