"""Faults of cross-encoders that answer by the first token that they write."""

from collections.abc import Mapping

import numpy as np

from mutations.edits import THERE, behind, behind_nodes, constant, op
from mutations.fault import Fault, in_graphs, in_manifest
from rankport.runtime.bundle.manifest import ManifestDraft

WIDTH = 32


def _words_exchanged(draft: ManifestDraft) -> Mapping[str, object]:
    assert draft.labels is not None
    return {"labels": draft.labels.model_copy(update={"names": draft.labels.names[::-1]})}


FAULTS = [
    Fault(
        "decoder begun with another token",
        "The decoder's one step starts from a token that is not the config's.",
        "first_token",
        in_graphs(behind("full_like", op("Sub", THERE, 3))),
        "one_item",
    ),
    Fault(
        "padding attended to across",
        "The decoder attends to the padding behind a short pair.",
        "first_token",
        in_graphs(behind_nodes("Where", op("Mul", THERE, np.float32(0)), which=slice(-1, None))),
        "batch",
        ("one_item",),
    ),
    Fault(
        "label rows exchanged",
        "The row of one label word answers for the other.",
        "first_token",
        in_graphs(constant(lambda array: array.shape == (WIDTH, 2), lambda old: old[:, ::-1])),
        "one_item",
    ),
    Fault(
        "label words exchanged",
        "Each label is named by the other's word.",
        "first_token",
        in_manifest(_words_exchanged),
        "labels:",
        ("one_item",),
    ),
]
