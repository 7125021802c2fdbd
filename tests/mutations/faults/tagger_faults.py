"""Faults of taggers: labels and transitions exchanged, frames lost, tokens out of place."""

import numpy as np

from mutations.edits import THERE, behind, op
from mutations.fault import Fault, in_file, in_graphs, in_manifest
from rankport.runtime.bundle.manifest import ManifestDraft, Prompt
from support.reading.taggers import NAMES

_COUNT = len(NAMES)


def _without_crf(draft: ManifestDraft) -> dict[str, object]:
    assert draft.tagging is not None
    return {"tagging": draft.tagging.model_copy(update={"crf": None})}


def _by_token(draft: ManifestDraft) -> dict[str, object]:
    assert draft.tagging is not None
    return {"tagging": draft.tagging.model_copy(update={"unit": "token"})}


def _types_exchanged(draft: ManifestDraft) -> dict[str, object]:
    assert draft.labels is not None
    turned = {"city": "food", "food": "city"}
    names = [name if name == "O" else f"{name[:2]}{turned[name[2:]]}" for name in draft.labels.names]
    return {"labels": draft.labels.model_copy(update={"names": names})}


def _without_end(draft: ManifestDraft) -> dict[str, object]:
    return {"prompt": Prompt(prefix=[], item=draft.prompt.item[:-1])}


def _transposed(data: bytes) -> bytes:
    values = np.frombuffer(data, "<f4").copy()
    moves = values[: _COUNT**2].reshape(_COUNT, _COUNT)
    return moves.T.tobytes() + values[_COUNT**2 :].tobytes()


FAULTS = [
    Fault(
        "labels of another type",
        "The two types of labels have each other's names.",
        "tagger",
        in_manifest(_types_exchanged),
        "spans",
        ("one_item", "batch"),
    ),
    Fault(
        "transitions left out",
        "The largest logit decides, where the checkpoint has a CRF.",
        "tagger",
        in_manifest(_without_crf),
        "spans",
        ("one_item", "batch"),
    ),
    Fault(
        "transitions backwards",
        "A CRF's transitions are read as to and from.",
        "tagger",
        in_file("crf.bin", _transposed),
        "spans",
        ("one_item", "batch"),
    ),
    Fault(
        "tokens tagged, not words",
        "Every token has a label, where the checkpoint labels words.",
        "tagger",
        in_manifest(_by_token),
        "spans",
        ("one_item", "batch"),
    ),
    Fault(
        "a frame without its end",
        "Texts are read without the special token that ends them.",
        "tagger",
        in_manifest(_without_end),
        "spans",
        ("one_item", "batch"),
    ),
    Fault(
        "labels of the next token",
        "A token has the logits of the one before it.",
        "tagger",
        in_graphs(
            behind(
                "logits",
                op(
                    "Concat",
                    op("Slice", THERE, [-1], [2**62], [1]),
                    op("Slice", THERE, [0], [-1], [1]),
                    axis=1,
                ),
            )
        ),
        "one_item",
    ),
    Fault(
        "labels of the batch's neighbour",
        "The logits of a batch come last text first.",
        "tagger",
        in_graphs(behind("logits", op("Slice", THERE, [-1], [-(2**62)], [0], [-1]))),
        "batch",
        ("one_item",),
    ),
]
