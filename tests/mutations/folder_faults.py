"""Faults of encoders from sentence-transformers folders: what a folder says, left out or misread."""

from collections.abc import Callable, Mapping

import numpy as np

from mutations.edits import constant
from mutations.fault import Fault, in_file, in_graphs, in_manifest
from rankport.runtime.bundle.manifest import ManifestDraft, Segment

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
]
