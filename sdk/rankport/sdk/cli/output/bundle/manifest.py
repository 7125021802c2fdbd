"""Tables of measurements and of what a bundle is, as commands show them to people."""

import re
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rankport.exporters.kinds.table import kinds_with
from rankport.runtime.bundle.description import class_read_out, read_out
from rankport.runtime.bundle.manifest import (
    Agreement,
    ClassHead,
    Manifest,
    ModeParity,
    Parity,
    Quality,
    WideFeature,
)
from rankport.sdk.cli.output.bundle.kinds import list_facts, set_facts, writing_facts
from rankport.sdk.cli.output.bundle.measures import (
    agreement_in_words,
    agreement_measures,
    parity_in_words,
    quality_rows,
    targets_in_words,
)
from rankport.sdk.cli.output.run_facts import RunFacts


def print_parity(console: Console, parity: Parity, target: str) -> None:
    """Prints a row a mode, and below them what each had to reach."""
    table = _modes_table(f"Parity of the graphs for {target}: {parity_in_words(parity)}")
    for mode in parity.modes:
        table.add_row(*_mode_cells(mode), style=None if parity.holds(mode) else "bold red")
    if parity.noise is not None:
        table.add_row(*_mode_cells(parity.noise), style="dim")
    table.add_section()
    table.add_row("limit", "", *_limit_cells(parity), "", style="bold")
    console.print(table)
    if parity.noise is not None:
        console.print(
            "noise: the source against itself, moved by rounding alone", style="dim", soft_wrap=True
        )
    if parity.batches is not None:
        console.print(parity.batches.in_words, style="dim", soft_wrap=True)
    if parity.order is not None:
        console.print(parity.order.in_words, style="dim", soft_wrap=True)


def _limit_cells(parity: Parity) -> tuple[str, str, str]:
    most, relative = parity.max_abs_tolerance, parity.max_relative_tolerance
    return (
        "" if most is None else f"≤{most:.1e}",
        "" if relative is None else f"≤{relative:.1e}",
        f"≥{parity.min_kendall_tau:.4g}",
    )


def print_drift(console: Console, drift: Sequence[ModeParity]) -> None:
    """Prints how far quantization at export moved the model from its full-precision source."""
    table = _modes_table("Drift from the full-precision source (reported, not limited)")
    for mode in drift:
        table.add_row(*_mode_cells(mode))
    console.print(table)


def print_agreement(console: Console, agreement: Agreement) -> None:
    """Prints how a bundle agrees with the owner's own pipeline."""
    table = Table(
        title=f"Agreement with your own pipeline: {agreement_in_words(agreement)}", title_justify="left"
    )
    for heading in ("", "measured", "limit"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for row in agreement_measures(agreement):
        table.add_row(row.name, row.value, row.limit, style=None if row.holds else "bold red")
    console.print(table)


def _modes_table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("mode", no_wrap=True)
    for heading in ("items", "max err", "rel err", "tau", "top-k"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _mode_cells(mode: ModeParity) -> tuple[str, ...]:
    return (
        mode.mode,
        str(mode.items),
        f"{mode.max_abs_error:.1e}",
        "-" if mode.relative_error is None else f"{mode.relative_error:.1e}",
        f"{mode.kendall_tau:.4f}",
        f"{mode.top_k_agreement:.3f}",
    )


def print_quality(console: Console, quality: Quality) -> None:
    """Prints NDCG of source and bundle."""
    table = Table(title=f"Ranking quality on {quality.requests} judged requests", title_justify="left")
    for heading in ("", "NDCG@1", "NDCG@10"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in quality_rows(quality):
        table.add_row(*row)
    console.print(table)


_FINGERPRINT = re.compile("[0-9a-f]{64}")


def print_manifest(console: Console, manifest: Manifest) -> None:
    """Prints what the bundle is, then what was measured."""
    table = Table(title=f"{manifest.name} {manifest.version}", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    whole = []  # fingerprints, that are to be copied and found in logs, are cut by no column
    for name, value in manifest_facts(manifest):
        if _FINGERPRINT.fullmatch(value):
            whole.append(f"{name}: {value}")
        else:
            table.add_row(name, value)
    console.print(table)
    for line in whole:
        console.print(line, soft_wrap=True, highlight=False)
    if manifest.parity is not None:
        print_parity(console, manifest.parity, manifest.targets[0])
    for target, parity in (manifest.target_parity or {}).items():
        print_parity(console, parity, target)
    print_measured(console, manifest.kind, manifest.drift, manifest.quality, manifest.agreement)


def print_measured(
    console: Console,
    kind: str,
    drift: Sequence[ModeParity] | None,
    quality: Quality | None,
    agreement: Agreement | None,
) -> None:
    """Prints what was measured beyond parity; says so where a bundle lost bits and nobody measured its ranking."""
    if agreement is not None:
        print_agreement(console, agreement)
    if drift is not None:
        print_drift(console, drift)
    if quality is not None:
        print_quality(console, quality)
    elif drift is not None and kind in kinds_with("judged"):
        console.print("ranking quality was not measured: give --judged, and the gate decides", style="yellow")


def print_run(console: Console, run: RunFacts) -> None:
    """Prints when, where and with what it was measured."""
    console.print(
        f"measured {run.date} on {run.machine}; {run.tools_in_words}",
        soft_wrap=True,
        highlight=False,
        markup=False,
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
        form = manifest.embedding
        facts.append(
            (
                "embedding tokens",
                f"{form.tokens} x {form.hidden_size} {form.dtype} {form.pooling or ''}".strip(),
            )
        )
    if manifest.pairing is not None:
        facts.append(("paired with encoder", manifest.pairing.encoder_fingerprint))
    if manifest.tokenization is not None:
        facts.append(("tokenization", manifest.tokenization.in_words))
    facts.append(("files", ", ".join(f"{file.path} {_size(file.size)}" for file in manifest.files)))
    return facts


def _shape(manifest: Manifest) -> str:
    shape = manifest.shape
    words = "" if manifest.sets is not None else f", vocabulary {shape.vocab_size}"
    return f"{len(shape.layers)} KV layers, hidden {shape.hidden_size}{words}"


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
            ("labels", f"{', '.join(labels.names)} ({labels.source})"),
            ("probabilities", class_read_out(labels, manifest.head)),
            ("head", _head(manifest.head)),
        ]
    if labels is not None and tagging is not None:
        crf = "" if tagging.crf is None else f", decoded by a {tagging.crf.kind} CRF"
        return [("labels", f"{', '.join(labels.names)} ({tagging.scheme}, one a {tagging.unit}{crf})")]
    if manifest.generation is not None:
        return writing_facts(manifest.generation)
    if labels is None or score is None:
        return []
    if manifest.sets is not None:
        return [("heads", ", ".join(labels.names)), *set_facts(manifest.sets, score)]
    facts = [
        ("labels", f"{', '.join(labels.names)} ({labels.source})"),
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
    if adapter is not None:
        base = f"{adapter.base or 'its base'} ({adapter.base_sha256[:12]}…)"
        merged = f"{adapter.type} of rank {adapter.rank} into {base}"
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
        facts.append(("  calibrated on", f"{used.requests} requests, {used.tokens} tokens"))
    return facts


def _shortened(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
