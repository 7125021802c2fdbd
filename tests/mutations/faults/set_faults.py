"""Faults of rankers of sets: candidates out of place, events out of their time, features scaled otherwise."""

import numpy as np

from mutations.edits import THERE, behind, op
from mutations.fault import Fault, in_file, in_graphs, in_manifest
from rankport.runtime.bundle.manifest import ManifestDraft

EVERYTHING = 2**62


def _unscaled(draft: ManifestDraft) -> dict[str, object]:
    assert draft.sets is not None
    first, rating = draft.sets.event
    return {"sets": draft.sets.model_copy(update={"event": [first, rating.model_copy(update={"std": 1.0})]})}


def _swapped(file: bytes) -> bytes:
    """Gives each of the first two keys the row of the other."""
    rows = 64 + 8 * 50
    return file[:rows] + file[rows + 4 : rows + 8] + file[rows : rows + 4] + file[rows + 8 :]


def _misplaced(file: bytes) -> bytes:
    """Puts the last key in front of all others, where its hash does not lead."""
    keys, rows = 64, 64 + 8 * 50
    return file[:keys] + file[rows - 8 : rows] + file[keys : rows - 8] + file[rows:]


FAULTS = [
    Fault(
        "candidates in reverse order",
        "The logits of a request come last candidate first.",
        "sets",
        in_graphs(behind("logits", op("Slice", THERE, [-1], [-EVERYTHING], [0], [-1])), "rank"),
        "one_pass",
    ),
    Fault(
        "events without their time",
        "All events of a history are as far back as the first day of all.",
        "sets",
        in_graphs(behind("past_times", op("Mul", THERE, [0])), "rank"),
        "one_pass",
    ),
    Fault(
        "an event seen by the next one's key",
        "The kept keys of events are one place on from their values.",
        "sets",
        in_graphs(
            behind(
                "past_key.0",
                op(
                    "Concat",
                    op("Slice", THERE, [-1], [EVERYTHING], [1]),
                    op("Slice", THERE, [0], [-1], [1]),
                    axis=1,
                ),
            ),
            "rank",
        ),
        "one_pass",
    ),
    Fault(
        "rows by the scale of the row before",
        "Gathered codes of ids are dequantized by the scales of the slots before theirs.",
        "gathered_sets",
        in_graphs(
            behind(
                "scales.movie",
                op(
                    "Concat",
                    op("Slice", THERE, [-1], [EVERYTHING], [0]),
                    op("Slice", THERE, [0], [-1], [0]),
                    axis=0,
                ),
            ),
            "rank",
        ),
        "one_pass",
    ),
    Fault(
        "an unknown id as a row",
        "The slot of zeros, which unknown ids are given, is another row's.",
        "gathered_sets",
        in_graphs(behind("candidate_rows", op("Max", THERE, np.ones(1, np.int32))), "rank"),
        "one_pass",
    ),
    Fault(
        "two keys swapped",
        "Two ids of a table have the row of each other.",
        "keyed_sets",
        in_file("tables/movie.keys", _swapped),
        "one_pass",
    ),
    Fault(
        "keys out of their places",
        "Keys lie where their hashes do not lead, and count as unknown ids or have the row of another.",
        "keyed_sets",
        in_file("tables/movie.keys", _misplaced),
        "one_pass",
    ),
    Fault(
        "a feature scaled otherwise",
        "A number of an event is divided by another deviation than in training.",
        "sets",
        in_manifest(_unscaled),
        "sets.event:",
    ),
]
