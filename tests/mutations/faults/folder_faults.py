"""Faults of encoders from sentence-transformers folders: what a folder says, left out or misread."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mutations.edits import THERE, all_of, before_nodes, constant, op, without_nodes
from mutations.fault import Fault, Subject, as_if_exported_from, in_file, in_graphs, in_manifest
from rankport.exporters.checkpoints.checkpoint import checkpoint_sha256
from rankport.runtime.bundle.manifest import ManifestDraft, Segment
from support import sentence_folders

LAST = slice(-1, None)
EVERYTHING = 2**62
OWNERS = "sentence_transformers"
Change = Callable[[ManifestDraft], Mapping[str, object]]


def _item(change: Callable[[list[Segment]], list[Segment]]) -> Change:
    return lambda draft: {"prompt": draft.prompt.model_copy(update={"item": change(draft.prompt.item)})}


def _embedding(**values: object) -> Change:
    def change(draft: ManifestDraft) -> Mapping[str, object]:
        assert draft.embedding is not None
        return {"embedding": draft.embedding.model_copy(update=values)}

    return change


def _limit(draft: ManifestDraft) -> Mapping[str, object]:
    return {"limits": draft.limits.model_copy(update={"max_item_tokens": 40})}


def _folding(subject: Subject, folder: Path) -> Subject:
    checkpoint = folder / "checkpoint"
    shutil.copytree(subject.checkpoint, checkpoint)
    own = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    sentence_folders.change(checkpoint / "0_Transformer", "tokenizer_config.json", **own)
    return as_if_exported_from(checkpoint, checkpoint_sha256(checkpoint))(subject, folder)


FAULTS = [
    Fault(
        "folder: prompt dropped",
        "Items are read without the folder's default prompt.",
        "folder",
        in_manifest(_item(lambda item: [item[0], Segment(item=True), item[-1]])),
        "prompt",
    ),
    Fault(
        "folder: prompt tokenized apart",
        "The folder's prompt and the text are two texts for the tokenizer.",
        "folder",
        in_manifest(_item(lambda item: [*item[:2], Segment(item=True), item[-1]])),
        "prompt",
    ),
    Fault(
        "folder: truncation side",
        "A text over the limit keeps its end.",
        "folder",
        in_manifest(_item(lambda item: [*item[:2], Segment(item=True, joined=True, keep="end"), item[-1]])),
        "prompt",
    ),
    Fault(
        "folder: limit of the positions",
        "Texts are cut where the positions end, not at max_seq_length.",
        "folder",
        in_manifest(_limit),
        "limits.max_item_tokens",
    ),
    Fault(
        "folder: pooling of a stale folder",
        "The manifest states the pooling of a folder that modules.json does not name.",
        "folder",
        in_manifest(_embedding(pooling="mean")),
        "embedding.pooling",
    ),
    Fault(
        "folder: bias of Dense dropped",
        "The Dense module's bias is left out.",
        "folder",
        in_graphs(constant("dense.0.linear.bias", np.zeros_like)),
        OWNERS,
    ),
    Fault(
        "folder: stale tokenizer",
        "The bundle's tokenizer reads a word as another than the folder's does.",
        "folder",
        in_file("tokenizer.json", lambda data: data.replace(b'"cook"', b'"kook"')),
        OWNERS,
    ),
    Fault(
        "folder: Dense dropped",
        "The first values of the mean, where the folder has a layer over it.",
        "folder",
        in_graphs(
            all_of(
                constant(lambda array: array.shape == (32, 24), lambda old: np.eye(32, 24)),
                constant("linear.bias", np.zeros_like),
                without_nodes("Tanh", LAST),
            )
        ),
        OWNERS,
    ),
    Fault(
        "folder: Dense's activation dropped",
        "The layer over the mean without its tanh.",
        "folder",
        in_graphs(without_nodes("Tanh", LAST)),
        OWNERS,
    ),
    Fault(
        "folder: normalize dropped",
        "Embeddings keep their length, where the folder ends in Normalize.",
        "folder",
        in_graphs(without_nodes("Div", LAST)),
        OWNERS,
    ),
    Fault(
        "folder: weights of the mean dropped",
        "All tokens weigh the same, where the folder weighs by position.",
        "folder",
        in_graphs(
            before_nodes("Mul", 1, op("Add", op("Mul", THERE, np.float32(0)), np.float32(1)), which=LAST)
        ),
        OWNERS,
    ),
    Fault(
        "folder: prompt in the mean",
        "The prompt's tokens are pooled, which the folder leaves out.",
        "folder",
        in_graphs(before_nodes("GreaterOrEqual", 0, op("Add", THERE, [100]), which=LAST)),
        OWNERS,
    ),
    Fault(
        "folder: last dimensions kept",
        "Of an embedding the last values are kept, where the folder keeps the first.",
        "folder",
        in_graphs(before_nodes("Slice", 0, op("Slice", THERE, [-1], [-EVERYTHING], [2], [-1]), which=LAST)),
        OWNERS,
    ),
    Fault(
        "folder: tokenizer_config.json ignored",
        "Case is kept, where the class of the checkpoint's tokenizer folds it.",
        "folder",
        _folding,
        OWNERS,
    ),
]
