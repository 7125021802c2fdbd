"""Faults of classifiers: labels, what their probabilities are, frames, limits, and rows of the head."""

from collections.abc import Mapping

from mutations.fault import Fault, Tensors, in_manifest, in_source
from rankport.runtime.bundle.manifest import ClassHead, ManifestDraft


def _reversed_names(draft: ManifestDraft) -> Mapping[str, object]:
    assert draft.labels is not None
    return {"labels": draft.labels.model_copy(update={"names": draft.labels.names[::-1]})}


def _unended(draft: ManifestDraft) -> Mapping[str, object]:
    return {"prompt": draft.prompt.model_copy(update={"item": draft.prompt.item[:-1]})}


def _shorter(draft: ManifestDraft) -> Mapping[str, object]:
    most = draft.limits.max_item_tokens - 7
    return {"limits": draft.limits.model_copy(update={"max_item_tokens": most})}


def _swap_rows(tensors: Tensors) -> None:
    tensors["classifier.weight"] = tensors["classifier.weight"][[1, 0, 2]]


def _other_bias(tensors: Tensors) -> None:
    tensors["bert.pooler.dense.bias"] = tensors["bert.pooler.dense.bias"] + 0.05


FAULTS = [
    Fault(
        "labels the other way round",
        "Names stand at other outputs of the head.",
        "classes",
        in_manifest(_reversed_names),
        "labels.names:",
    ),
    Fault(
        "labels that stand alone",
        "Each label has a sigmoid of its own, where they exclude each other.",
        "classes",
        in_manifest(lambda draft: {"head": ClassHead(exclusive=False)}),
        "head:",
    ),
    Fault(
        "softmax of labels that exclude nothing",
        "The config says multi_label_classification, and the bundle a softmax.",
        "classes",
        in_source(config={"problem_type": "multi_label_classification"}),
        "head:",
    ),
    Fault(
        "text without its last token",
        "A text does not end as the tokenizer ends it.",
        "classes",
        in_manifest(_unended),
        "text:",
    ),
    Fault(
        "text cut early",
        "A text is cut below the limit of its tokenizer, as no option asked for.",
        "classes",
        in_manifest(_shorter),
        "limits:",
    ),
    Fault(
        "rows of a head swapped",
        "Two labels have each other's weights.",
        "classes",
        in_source(tensors=_swap_rows),
        "one_item",
    ),
    Fault(
        "another bias before the head",
        "The layer before the head has another bias.",
        "classes",
        in_source(tensors=_other_bias),
        "one_item",
    ),
]
