"""Faults of cross-encoders: token types, frames, cuts, limits, order and scores of pairs."""

from collections.abc import Mapping

from mutations.edits import THERE, behind, op
from mutations.fault import Fault, in_graphs, in_manifest
from rankport.runtime.bundle.manifest import Limits, ManifestDraft, Pair, Score

OWNER = "sentence_transformers"


def _unframed(draft: ManifestDraft) -> Mapping[str, object]:
    rest = draft.prompt.prefix[1:]
    return {"prompt": draft.prompt.model_copy(update={"prefix": rest})}


def _no_separator(draft: ManifestDraft) -> Mapping[str, object]:
    return {"prompt": draft.prompt.model_copy(update={"item": draft.prompt.item[:1]})}


def _from_the_end(draft: ManifestDraft) -> Mapping[str, object]:
    item, *rest = draft.prompt.item
    kept = item.model_copy(update={"keep": "end"})
    return {"prompt": draft.prompt.model_copy(update={"item": [kept, *rest]})}


def _shorter(draft: ManifestDraft) -> Mapping[str, object]:
    assert draft.pair is not None
    most = draft.pair.max_tokens - 7
    return {
        "pair": Pair(max_tokens=most),
        "limits": Limits(max_prefix_tokens=most, max_item_tokens=most),
    }


FAULTS = [
    Fault(
        "one type for both texts",
        "Tokens of the second text have the type of the first.",
        "pairs",
        in_graphs(behind("token_type_ids", op("Sub", THERE, THERE))),
        "one_item",
    ),
    Fault(
        "types the other way",
        "Tokens of the first text have the type of the second, and the reverse.",
        "pairs",
        in_graphs(behind("token_type_ids", op("Sub", 1, THERE))),
        "one_item",
    ),
    Fault(
        "pair without its first token",
        "A pair does not open as the tokenizer opens it.",
        "pairs",
        in_manifest(_unframed),
        "pair:",
    ),
    Fault(
        "pair without its last separator",
        "Nothing ends the second text.",
        "pairs",
        in_manifest(_no_separator),
        "pair:",
    ),
    Fault(
        "end of an item kept",
        "Of an item that is too long the end stays, where the tokenizer keeps its start.",
        "pairs",
        in_manifest(_from_the_end),
        "truncation:",
    ),
    Fault(
        "pair cut early",
        "A pair is cut below the limit of its folder, as no option asked for.",
        "pairs",
        in_manifest(_shorter),
        OWNER,
        ("one_item", "batch"),
    ),
    Fault(
        "activation left out",
        "A score is the logit, where the folder makes a sigmoid of it.",
        "pairs",
        in_manifest(lambda draft: {"score": Score(kind="logit", transform="none")}),
        "score:",
        ("one_item", "batch"),
    ),
]
