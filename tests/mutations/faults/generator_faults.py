"""Faults of generators: places of tokens, texts that share a pass, and what ends a text."""

from mutations.edits import THERE, behind, op
from mutations.fault import Fault, in_graphs, in_manifest
from rankport.runtime.bundle.manifest import ManifestDraft

EVERYTHING = 2**62


def _other_end(draft: ManifestDraft) -> dict[str, object]:
    assert draft.generation is not None
    ends = [(end + 1) % draft.shape.vocab_size for end in draft.generation.stop_ids]
    return {"generation": draft.generation.model_copy(update={"stop_ids": ends})}


FAULTS = [
    Fault(
        "all tokens at one place",
        "Tokens that are written stand where the first of a text stands.",
        "generator",
        in_graphs(behind("position_ids", op("Mul", THERE, [0]))),
        "alone",
    ),
    Fault(
        "last places of a text at one place",
        "Tokens behind the 113th stand where that one stands.",
        "generator",
        in_graphs(behind("position_ids", op("Min", THERE, [112]))),
        "alone/to_the_end",
    ),
    Fault(
        "logits of the pass's other text",
        "The logits of texts that are written together come last text first.",
        "generator",
        in_graphs(behind("logits", op("Slice", THERE, [-1], [-EVERYTHING], [0], [-1]))),
        "together",
        ("alone",),
    ),
    Fault(
        "states of the pass's other text",
        "Recurrent layers of texts that are written together go on from the states of the last text first.",
        "hybrid",
        in_graphs(behind("new_recurrent_state.0", op("Slice", THERE, [-1], [-EVERYTHING], [0], [-1]))),
        "together",
        ("alone", "scored"),
    ),
    Fault(
        "another token ends a text",
        "A text ends at the token after the one that the checkpoint names.",
        "generator",
        in_manifest(_other_end),
        "generation:",
    ),
]
