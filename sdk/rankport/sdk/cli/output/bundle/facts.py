"""Facts of a bundle, as names and values: what its manifest says it is."""

from collections.abc import Iterator
from math import prod

from rankport.protos.wording import counted
from rankport.runtime.backends.layouts.kept import KeptState
from rankport.runtime.bundle.description import class_read_out, read_out, shown_labels
from rankport.runtime.bundle.manifest import (
    Calibration,
    ClassHead,
    Embedding,
    Manifest,
    WideFeature,
)
from rankport.sdk.cli.output.bundle.kinds import chat_in_words, list_facts, set_facts, writing_facts
from rankport.sdk.cli.output.bundle.measures import (
    targets_in_words,
)


def manifest_facts(manifest: Manifest) -> list[tuple[str, str]]:
    """Lists what a bundle is: names and values."""
    source = manifest.source
    facts = [
        ("kind", manifest.kind),
        ("fingerprint", manifest.fingerprint),
        (
            "source",
            f"{source.architecture}, {source.parameters / 1e6:.1f} M parameters stored as {source.dtype}",
        ),
        *_origin(manifest),
        ("precision", manifest.precision),
        ("targets", targets_in_words(manifest)),
        *_quantization(manifest),
        ("shape", _shape(manifest)),
        ("limits", _limits(manifest)),
    ]
    if manifest.sets is None:
        facts.append(("prompt", " ".join(_segments(manifest))))
    facts += _read_out(manifest)
    if manifest.embedding is not None:
        facts.append(_embedding(manifest.embedding))
    if manifest.queries is not None:
        facts.append(("queries", "read as items are"))
    if manifest.pairing is not None:
        facts.append(("paired with encoder", manifest.pairing.encoder_fingerprint))
    if manifest.tokenization is not None:
        facts.append(("tokenization", manifest.tokenization.in_words))
    facts.append(("files", ", ".join(f"{file.path} {_size(file.size)}" for file in manifest.files)))
    return facts


def _embedding(form: Embedding) -> tuple[str, str]:
    if form.form == "vocabulary":
        return "weights", f"of {form.hidden_size} tokens, {form.dtype}"
    return "embedding tokens", f"{form.tokens} x {form.hidden_size} {form.dtype} {form.pooling or ''}".strip()


def _shape(manifest: Manifest) -> str:
    shape = manifest.shape
    words = "" if manifest.sets is not None else f", vocabulary {shape.vocab_size}"
    return f"{len(shape.layers)} KV layers{_states(manifest)}, hidden {shape.hidden_size}{words}"


def _states(manifest: Manifest) -> str:
    """Says what recurrent layers keep of a prefix, however long it is."""
    prefix = next((graph for graph in manifest.graphs if graph.role == "prefix"), None)
    states = () if prefix is None else KeptState.of(prefix)
    numbers = sum(prod(state.shape) for state in states)
    return f", {len(states)} recurrent states ({numbers:,} numbers a prefix)" if states else ""


def _limits(manifest: Manifest) -> str:
    if manifest.sets is not None:
        return f"{manifest.sets.max_events} events, {manifest.sets.max_candidates} candidates"
    if manifest.pair is not None and manifest.pair.cut != "each":
        return f"pair {manifest.pair.max_tokens} tokens, cut {manifest.pair.cut}"
    return f"prefix {manifest.limits.max_prefix_tokens}, item {manifest.limits.max_item_tokens} tokens"


def _read_out(manifest: Manifest) -> list[tuple[str, str]]:
    labels, score, tagging = manifest.labels, manifest.score, manifest.tagging
    if labels is not None and manifest.head is not None:
        return [
            ("labels", f"{', '.join(shown_labels(labels))} ({labels.source})"),
            ("probabilities", class_read_out(labels, manifest.head)),
            ("head", _head(manifest.head)),
        ]
    if labels is not None and tagging is not None:
        crf = "" if tagging.crf is None else f", decoded by a {tagging.crf.kind} CRF"
        return [
            ("labels", f"{', '.join(shown_labels(labels))} ({tagging.scheme}, one a {tagging.unit}{crf})")
        ]
    if manifest.generation is not None:
        chat = [] if manifest.chat is None else [("chat", chat_in_words(manifest.chat))]
        return [*chat, *writing_facts(manifest.generation)]
    if labels is None or score is None:
        return []
    if manifest.sets is not None:
        return [("heads", ", ".join(labels.names)), *set_facts(manifest.sets, score)]
    facts = [
        ("labels", f"{', '.join(shown_labels(labels))} ({labels.source})"),
        ("score", f"{score.kind}: {read_out(labels, score)}"),
    ]
    if labels.pad_token is not None:
        read_at = f"the last token that is not {labels.pad_token}, the pad token, as transformers' head does"
        facts.append(("read at", f"{read_at}; items of embedding tokens at their last"))
    if manifest.lists is not None:
        facts += list_facts(manifest.lists)
    if manifest.wide:
        facts.append(("wide features", ", ".join(map(_feature, manifest.wide))))
    return facts


def _feature(feature: WideFeature) -> str:
    missing = "none may be missing" if feature.nan is None else f"missing counts as {feature.nan:g}"
    return f"{feature.name} ({feature.scaling}; {missing})"


def _head(head: ClassHead) -> str:
    if head.pooling is None:
        return "the class's own"
    layers = [f"{layer.in_features} x {layer.out_features} {layer.activation}" for layer in head.dense]
    return ", ".join([" + ".join(head.poolings), *layers])


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB" if nbytes >= 1e6 else f"{nbytes / 1e3:.1f} kB"


def _segments(manifest: Manifest) -> list[str]:
    shown = []
    for part in (manifest.prompt.prefix, manifest.prompt.item):
        for segment in part:
            if segment.joined:
                shown.append("+")
            if segment.special is not None:
                shown += segment.special
            elif segment.text is not None:
                shown.append(repr(segment.text))
            else:
                shown.append(f"<{segment.field or 'item'}>")
        shown.append("|")
    return shown[:-1]


def _origin(manifest: Manifest) -> list[tuple[str, str]]:
    adapter = manifest.source.adapter
    facts = [("code left out", code) for code in manifest.source.ignored_code]
    facts += [("note", note) for note in manifest.source.notes]
    if manifest.source.task is not None:
        facts.insert(0, ("task", f"{manifest.source.task}: its adapter is in the weights"))
    if adapter is not None:
        base = f"{adapter.base or 'its base'} ({adapter.base_sha256[:12]}…)"
        form = (
            f"{adapter.type} of rank {adapter.rank}"
            if adapter.rank
            else f"{adapter.type}: rows of tables alone,"
        )
        merged = f"{form} into {base}"
        facts.insert(0, ("adapter", merged))
    return facts


def _quantization(manifest: Manifest) -> list[tuple[str, str]]:
    quantization = manifest.quantization
    if quantization is None:
        return []
    facts = [("quantized", f"by {quantization.by}: {quantization.method}, {quantization.format}")]
    for part in quantization.parts:
        grain = "tensor or channel" if part.group_size is None else f"{part.group_size} channels"
        facts.append(
            (
                f"  {part.part}",
                f"{part.layers} x {part.type}{part.bits}, {part.weights / 1e6:.1f} M weights, a scale per {grain}, "
                f"activations {part.activations}",
            )
        )
    if quantization.kept:
        facts.append(("  full precision", _shortened(quantization.kept)))
    if quantization.calibration is not None:
        used = quantization.calibration
        facts.append(("  calibrated on", ", ".join(_calibration(used))))
    return facts


def _calibration(used: Calibration) -> Iterator[str]:
    yield f"{used.requests} requests"
    yield f"{used.tokens} tokens"
    if used.cut:
        yield f"{counted(used.cut, 'text')} cut to the limits"
    if used.passed_over:
        yield f"{counted(used.passed_over, 'item')} of the file not run"


def _shortened(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
