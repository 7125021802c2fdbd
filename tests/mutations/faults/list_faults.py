"""Faults of list rankers: markers, and what is read at them; embedding tokens; how blocks are joined."""

from mutations.edits import THERE, behind, op
from mutations.fault import Fault, in_graphs, in_manifest
from rankport.runtime.bundle.manifest import ManifestDraft

EVERYTHING = 2**62


def _joined_by_mean(draft: ManifestDraft) -> dict[str, object]:
    assert draft.lists is not None
    other = "independent" if draft.lists.join == "mean-query" else "mean-query"
    return {"lists": draft.lists.model_copy(update={"join": other})}


def _without_end(draft: ManifestDraft) -> dict[str, object]:
    assert draft.lists is not None
    return {"lists": draft.lists.model_copy(update={"alone": draft.lists.alone[:-1]})}


FAULTS = [
    Fault(
        "markers read one early",
        "The state of the token before each marker speaks for its item.",
        "lists",
        in_graphs(behind("marks", op("Max", op("Sub", THERE, [1]), [0]))),
        "one_item",
    ),
    Fault(
        "items of a list in reverse order",
        "What is read at the markers of a prompt comes last first.",
        "lists",
        in_graphs(behind("vectors", op("Slice", THERE, [-1], [-EVERYTHING], [1], [-1]))),
        "one_block",
        ("one_item",),
    ),
    Fault(
        "embedding tokens of a list ignored",
        "Where an item's embedding is injected, the model sees an ordinary token.",
        "lists",
        in_graphs(behind("embedding_rows", op("Sub", op("Mul", THERE, [0]), [1]))),
        "embeddings",
        ("one_item", "one_block", "token_ids"),
    ),
    Fault(
        "embedding tokens of the pass's other block",
        "Blocks of a pass have each other's embedding tokens, the last block's first.",
        "lists",
        in_graphs(behind("embedding_rows", op("Slice", THERE, [-1], [-EVERYTHING], [0], [-1]))),
        "embeddings",
        ("one_item", "one_block", "several_blocks"),
    ),
    Fault(
        "blocks joined otherwise",
        "Items of several blocks are compared with another query than their source has them.",
        "lists",
        in_manifest(_joined_by_mean),
        "lists.join:",
    ),
    Fault(
        "texts read one token early",
        "The last state but one of the prompt, and of each item by itself, speaks for it.",
        "alone_lists",
        in_graphs(behind("marks", op("Max", op("Sub", THERE, [1]), [0]))),
        "one_item",
    ),
    Fault(
        "items of a pass in reverse order",
        "Vectors of a prompt and of items by themselves come last text first.",
        "alone_lists",
        in_graphs(behind("vectors", op("Slice", THERE, [-1], [-EVERYTHING], [0], [-1]))),
        "one_block",
    ),
    Fault(
        "an item alone without its end",
        "An item's own text lacks the token whose state is the item's vector.",
        "alone_lists",
        in_manifest(_without_end),
        "lists.alone:",
    ),
]
