"""Faults of encoder-decoders that write: texts and beams that share a pass, padding, and what ends an answer."""

from mutations.edits import THERE, behind, op
from mutations.fault import Fault, in_graphs, in_manifest
from rankport.runtime.bundle.manifest import ManifestDraft

EVERYTHING = 2**62
FLOAT = 1
LATE = op("Cast", op("Unsqueeze", op("Greater", "past_lengths", [14]), [1, 2]), to=FLOAT)


def _other_end(draft: ManifestDraft) -> dict[str, object]:
    assert draft.generation is not None
    ends = [(end + 1) % draft.shape.vocab_size for end in draft.generation.stop_ids]
    return {"generation": draft.generation.model_copy(update={"stop_ids": ends})}


FAULTS = [
    Fault(
        "answers to the pass's other text",
        "The logits of answers that are written together come last text first.",
        "seq2seq",
        in_graphs(behind("logits", op("Slice", THERE, [-1], [-EVERYTHING], [0], [-1])), "decode"),
        "together",
        ("alone",),
    ),
    Fault(
        "beams exchanged",
        "The logits of a text's beams come last beam first.",
        "seq2seq",
        in_graphs(behind("logits", op("Slice", THERE, [-1], [-EVERYTHING], [1], [-1])), "decode"),
        "beams",
        ("alone", "together", "staggered"),
    ),
    Fault(
        "padding of a text attended to",
        "An answer reads what pads its text to the longest of the pass.",
        "seq2seq",
        in_graphs(behind("source_lengths", op("Add", THERE, [1000])), "decode"),
        "together",
    ),
    Fault(
        "late tokens otherwise",
        "Logits behind the 15th token of an answer are 1 above those of the checkpoint.",
        "seq2seq",
        in_graphs(behind("logits", op("Add", THERE, LATE)), "decode"),
        "to_the_end",
        ("alone", "together", "staggered", "beams"),
    ),
    Fault(
        "another token ends an answer",
        "An answer ends at the token after the one that the checkpoint names.",
        "seq2seq",
        in_manifest(_other_end),
        "generation:",
    ),
]
