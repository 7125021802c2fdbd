"""Description that a loaded bundle gives of itself."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rankport.protos.types import FeatureDescription, ModelDescription
from rankport.runtime.bundle.manifest import ClassHead, Labels, Manifest, Score
from rankport.runtime.bundle.sections.sets import IdFeature, IdTable, SetFeature, SetSchema

LIKELIHOODS = {
    "with-end": "log-probability of the item as the whole text behind the prefix",
    "none": "log-probability of the item as the beginning of a text behind the prefix",
}


def describe(manifest: Manifest, *, keys: bool = False) -> ModelDescription:
    """Returns the description of a bundle; `keys` says that items may be keys of a token store."""
    embedding, labels, pairing = manifest.embedding, manifest.labels, manifest.pairing
    score, chat = manifest.score, manifest.chat
    takes_embeddings = embedding is not None and not embedding.is_output
    takes_items = manifest.generation is None or score is not None
    forms = {
        "text": manifest.tokenizer is not None,
        # A ranker of sets takes features, a tagger text alone, whose places it tells.
        "token_ids": manifest.sets is None and manifest.tagging is None,
        "embeddings": takes_embeddings,
        "key": takes_embeddings and keys,
    }
    return ModelDescription(
        name=manifest.name,
        version=manifest.version,
        kind=manifest.kind,
        fingerprint=manifest.fingerprint,
        architecture=manifest.source.architecture,
        precision=manifest.precision if manifest.quantization is None else manifest.quantization.format,
        labels=() if labels is None else tuple(labels.names),
        prompt_fields=manifest.prompt.fields,
        item_forms=tuple(form for form, taken in forms.items() if taken and takes_items),
        hidden_size=manifest.shape.hidden_size if embedding is None else embedding.hidden_size,
        embedding_tokens=0 if embedding is None else embedding.tokens,
        embedding_dtype="" if embedding is None else embedding.dtype,
        embedding_form="vocabulary" if embedding is not None and embedding.form == "vocabulary" else "",
        max_prefix_tokens=manifest.limits.max_prefix_tokens,
        max_item_tokens=manifest.limits.max_item_tokens,
        paired_encoder="" if pairing is None else pairing.encoder_fingerprint,
        score_kind="" if score is None else score.kind,
        features=tuple(
            feature.name for feature in (manifest.wide if manifest.sets is None else manifest.sets.candidate)
        ),
        read_out=_read_out(manifest),
        label_token_ids=tuple(labels.ids) if labels is not None and labels.source == "lm_head" else (),
        chat_roles=() if chat is None else chat.roles,
        chat_template_kwargs=json.dumps(chat.arguments) if chat is not None and chat.arguments else "",
        **({} if manifest.sets is None else _sets(manifest.sets)),
    )


def _sets(schema: SetSchema) -> dict[str, Any]:
    """Says what events and candidates are given by."""

    def told(features: Sequence[SetFeature]) -> tuple[FeatureDescription, ...]:
        return tuple(
            _id_feature(each, schema.tables[each.table])
            if each.source == "id"
            else FeatureDescription(each.name, each.source, schema.width_of(each))
            for each in features
        )

    return {
        "event_features": told(schema.event),
        "candidate_features": told(schema.candidate),
        "event_times": schema.times,
        "mask": schema.mask.policy,
    }


def _id_feature(feature: IdFeature, table: IdTable) -> FeatureDescription:
    """Says how its ids find rows, of which type they are, and how many have one of their own."""
    known = {"direct": table.rows, "keys": table.key_count}
    return FeatureDescription(feature.name, "id", 1, table.lookup, table.ids, known.get(table.lookup, 0))


def _read_out(manifest: Manifest) -> str:
    """Says how scores, or the probabilities of classes, are made of logits."""
    labels, score, head = manifest.labels, manifest.score, manifest.head
    if score is not None and score.kind == "log_likelihood":
        return LIKELIHOODS[score.transform]
    if labels is None:
        return ""
    if manifest.sets is not None and score is not None:
        return set_read_out(manifest.sets.head_weights, score)
    if score is not None:
        return read_out(labels, score)
    return "" if head is None else class_read_out(labels, head)


def set_read_out(head_weights: Mapping[str, float], score: Score) -> str:
    """Says in a few words how heads are combined: `1 click + 0.5 like, of sigmoids`."""
    total = " + ".join(f"{weight:g} {name}" for name, weight in head_weights.items())
    return f"{total}, of {'sigmoids' if score.transform == 'sigmoid' else 'logits'}"


def shown_labels(labels: Labels) -> list[str]:
    """Writes the names of labels as they are, those with blanks at their ends (tokens behind a word) in quotes."""
    return [name if name == name.strip() else repr(name) for name in labels.names]


def class_read_out(labels: Labels, head: ClassHead) -> str:
    """Says in a few words how probabilities of labels are made: `softmax over low, high`."""
    names = ", ".join(shown_labels(labels))
    return f"softmax over {names}" if head.exclusive else f"sigmoid of each of {names}"


def read_out(labels: Labels, score: Score) -> str:
    """Says in a few words how a score is made: `softmax over yes, no: yes`."""
    names = shown_labels(labels)
    positive = names[labels.positive]
    if score.kind == "cosine":
        return "cosine of query and item"
    if score.transform in ("softmax", "log-odds"):
        return f"{score.transform} over {', '.join(names)}: {positive}"
    return f"sigmoid of {positive}" if score.transform == "sigmoid" else f"logit of {positive}"
