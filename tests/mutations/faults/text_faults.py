"""Faults of texts: tokenizers, labels, prompts, cuts, scores and stored embeddings."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mutations.edits import LastOf, behind_nodes, op
from mutations.fault import (
    Fault,
    Plant,
    Subject,
    as_if_exported_from,
    both,
    in_file,
    in_graphs,
    in_manifest,
)
from rankport.exporters.checkpoints.checkpoint import checkpoint_sha256
from rankport.runtime.bundle.manifest import ManifestDraft, Segment
from support.checkpoints import tiny_tokenizer

Changes = Mapping[str, object]
OWNER = "--reference"
ANOTHER_ENCODER = "f" * 64


def tokenizer_json(change: Callable[[dict[str, Any]], None]) -> Plant:
    """Changes the bundle's tokenizer."""

    def rewritten(content: bytes) -> bytes:
        fields = json.loads(content)
        change(fields)
        return json.dumps(fields).encode()

    return in_file("tokenizer.json", rewritten)


def _older(fields: dict[str, Any]) -> None:
    words = fields["model"]["vocab"]
    words["nurse"], words["pilot"] = words["pilot"], words["nurse"]


def _folding(fields: dict[str, Any]) -> None:
    fields["normalizer"] = {"type": "Lowercase"}


def _by_spaces(fields: dict[str, Any]) -> None:
    fields["pre_tokenizer"] = {"type": "WhitespaceSplit"}


def _shorter(fields: dict[str, Any]) -> None:
    del fields["model"]["vocab"]["in"]


def prompt(part: str, change: Callable[[list[Segment]], Sequence[Segment]]) -> Plant:
    """Changes the segments of the prefix or of an item."""
    return in_manifest(
        lambda draft: {
            "prompt": draft.prompt.model_copy(update={part: [*change(getattr(draft.prompt, part))]})
        }
    )


def field(**changes: object) -> Plant:
    """Changes the prefix's field."""
    return prompt("prefix", lambda segments: [*segments[:-1], segments[-1].model_copy(update=changes)])


def labels(change: Callable[[Any], Changes]) -> Plant:
    """Changes what the manifest says of labels."""

    def changed(draft: ManifestDraft) -> Changes:
        assert draft.labels is not None
        return {"labels": draft.labels.model_copy(update=dict(change(draft.labels)))}

    return in_manifest(changed)


def _sigmoid(draft: ManifestDraft) -> Changes:
    assert draft.score is not None
    return {"score": draft.score.model_copy(update={"transform": "sigmoid"})}


def _paired_with_another(draft: ManifestDraft) -> Changes:
    assert draft.pairing is not None
    return {"pairing": draft.pairing.model_copy(update={"encoder_fingerprint": ANOTHER_ENCODER})}


def _pooling(name: str) -> Plant:
    def changed(draft: ManifestDraft) -> Changes:
        assert draft.embedding is not None
        return {"embedding": draft.embedding.model_copy(update={"pooling": name})}

    return in_manifest(changed)


def _with_tokenizer(subject: Subject, folder: Path) -> Subject:
    checkpoint = folder / "checkpoint"
    shutil.copytree(subject.checkpoint, checkpoint)
    tiny_tokenizer().save(str(checkpoint / "tokenizer.json"))
    return as_if_exported_from(checkpoint, checkpoint_sha256(checkpoint))(subject, folder)


FIRST_STATE = behind_nodes("Div", op("Slice", LastOf("LayerNormalization"), [0], [1], [1]))

TOKENIZERS = [
    Fault(
        "stale tokenizer",
        "The tokenizer is that of an earlier training, two words of which have changed places since.",
        "plain",
        tokenizer_json(_older),
        "tokenizer:",
        ("full_sequence",),
    ),
    Fault(
        "case folded",
        "Texts are folded to lower case, which the checkpoint's tokenizer tells apart.",
        "plain",
        tokenizer_json(_folding),
        "tokenizer:",
    ),
    Fault(
        "words split otherwise",
        "Punctuation stays with its word, where the checkpoint's tokenizer splits it off.",
        "encoder",
        tokenizer_json(_by_spaces),
        "tokenizer:",
    ),
    Fault(
        "word missing",
        "A word of the checkpoint's vocabulary is unknown.",
        "encoder",
        tokenizer_json(_shorter),
        "tokenizer:",
    ),
    Fault(
        "tokenizer left out",
        "The bundle takes token ids alone, where the checkpoint has a tokenizer.",
        "gemma",
        _with_tokenizer,
        "tokenizer:",
    ),
]

LABELS = [
    Fault(
        "swapped labels",
        "The bundle calls the token of yes no, and that of no yes.",
        "plain",
        labels(lambda stated: {"names": stated.names[::-1]}),
        "labels:",
    ),
    Fault(
        "label id off by one",
        "The head's rows are those of the tokens after the labels.",
        "plain",
        labels(lambda stated: {"ids": [token + 1 for token in stated.ids]}),
        "labels:",
    ),
    Fault(
        "outputs of a head named otherwise",
        "The bundle calls the head's first output relevant, config.json its second.",
        "classifier",
        labels(lambda stated: {"names": stated.names[::-1]}),
        "labels:",
    ),
    Fault(
        "head read at the padding",
        "The head is read at an item's last token, where the model passes over tokens of padding.",
        "classifier",
        labels(lambda stated: {"pad_token": None}),
        "full_sequence/text",
    ),
    Fault(
        "positive label",
        "The probability of no is taken for the score.",
        "owned",
        labels(lambda stated: {"positive": 1}),
        OWNER,
        ("full_sequence",),
    ),
    Fault(
        "sigmoid for softmax",
        "The score is the sigmoid of the positive logit, where the owner takes a share of both.",
        "owned",
        in_manifest(_sigmoid),
        OWNER,
        ("full_sequence",),
    ),
]

PROMPTS = [
    Fault(
        "prompt dropped",
        "The instruction before the query is left out.",
        "owned",
        prompt("prefix", lambda segments: [part for part in segments if part.text is None]),
        OWNER,
    ),
    Fault(
        "special token missing",
        "Nothing ends an item.",
        "owned",
        prompt("item", lambda segments: segments[:-1]),
        OWNER,
    ),
    Fault(
        "special token spelled",
        "The token that begins a prompt is tokenized as a text.",
        "owned",
        prompt("prefix", lambda segments: [Segment(text="[BOS]"), *segments[1:]]),
        OWNER,
    ),
    Fault(
        "template edge",
        "What follows an item is tokenized apart from it, where the owner tokenizes the joined text.",
        "owned",
        prompt("item", lambda segments: [part.model_copy(update={"joined": False}) for part in segments]),
        OWNER,
    ),
    Fault(
        "truncation side",
        "A query that is too long keeps its end, where the owner keeps its start.",
        "owned",
        field(keep="end"),
        OWNER,
    ),
    Fault(
        "truncation length",
        "A query keeps fewer tokens than with its owner.",
        "owned",
        field(max_tokens=3),
        OWNER,
    ),
    Fault(
        "frame of an encoder dropped",
        "An item's text comes without the tokens that the tokenizer puts around it.",
        "owned_encoder",
        prompt("item", lambda segments: [part for part in segments if part.special is None]),
        OWNER,
        ("one_item", "batch"),
    ),
    Fault(
        "pooling misread",
        "The first token's state throughout, in the graph and in what the bundle says, where the owner takes the mean.",
        "owned_encoder",
        both(in_graphs(FIRST_STATE), _pooling("cls")),
        OWNER,
        ("one_item", "batch"),
    ),
]

EMBEDDINGS = [
    Fault(
        "embeddings of another encoder",
        "The bundle is paired with an encoder other than the one whose tokens are in the store.",
        "keyed",
        in_manifest(_paired_with_another),
        "is paired with encoder",
    ),
]

FAULTS = [*TOKENIZERS, *LABELS, *PROMPTS, *EMBEDDINGS]
