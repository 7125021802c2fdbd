"""`rankport export`."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer

from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.table import EXPORT_KINDS, kind_named, kinds_with, options_of
from rankport.exporters.options.options import ExportOptions, option_names
from rankport.protos.errors import InvalidRequest, ParityError
from rankport.sdk.cli.flags.dataclass_options import flags_of, takes, values_of
from rankport.sdk.cli.flags.proof_options import HtmlFile, JsonFile
from rankport.sdk.cli.process import importing


def _flags() -> list[Parameter]:
    """Lists what every kind can be asked for, then the rest, headed by the kinds that have it."""
    flags = flags_of(ExportOptions)
    seen = set(option_names(ExportOptions))
    for kind in EXPORT_KINDS:
        for option in option_names(kind.options):
            if option not in seen:
                seen.add(option)
                panel = f"Only --kind {' or '.join(kinds_with(option))}"
                flags += flags_of(
                    kind.options, panel=panel, only={option}, more=_of_other_kinds(option, kind)
                )
    return flags


def _of_other_kinds(option: str, first: ExportKind) -> str:
    """Says what an option is of the kinds that have other words for it than the first one."""
    told = {_help(option, first): [first.name]}
    for kind in EXPORT_KINDS:
        if kind.name != first.name and option in option_names(kind.options):
            told.setdefault(_help(option, kind), []).append(kind.name)
    return "".join(f" For {' and '.join(names)}: {words}" for words, names in list(told.items())[1:])


def _help(option: str, kind: ExportKind) -> str:
    (words,) = [described.metadata["help"] for described in fields(kind.options) if described.name == option]
    return str(words)


def _kind(name: str) -> ExportKind:
    try:
        return kind_named(name)
    except InvalidRequest as error:
        raise typer.BadParameter(str(error)) from error


@takes(*_flags())
def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="Hugging Face checkpoint folder (config.json, safetensors).")
    ],
    out: Annotated[
        Path, typer.Option(help="Bundle directory to make. Nothing is left there if anything fails.")
    ],
    kind: Annotated[
        ExportKind | None,
        typer.Option(
            parser=_kind,
            metavar="KIND",
            help=f"{'; '.join(f'{row.name} {row.does}' for row in EXPORT_KINDS)}. [default: the one kind that claims "
            "the checkpoint]",
        ),
    ] = None,
    json_file: JsonFile = None,
    html_file: HtmlFile = None,
    **given: Any,
) -> None:
    """Turn a checkpoint into a bundle that is proven equal to it, or leave nothing and exit 1.

    The bundle is measured against the checkpoint's own forward (low bits: against their own maths in torch) in every
    mode that will serve: full sequence, prefix reuse, prefix extension, one item alone, many prefixes in one pass.
    Where it misses a limit, --json and --html have what `verify` would write of it.
    """
    from rankport.runtime.backends.tensorrt.status import check_plans
    from rankport.sdk.cli.output.bundle.manifest import print_manifest, print_run
    from rankport.sdk.cli.output.bundle.plans import print_plans
    from rankport.sdk.cli.output.consoles import plain_console
    from rankport.sdk.cli.output.progress import steps
    from rankport.sdk.cli.output.report.page import write_html
    from rankport.sdk.cli.output.report.report import ProofReport
    from rankport.sdk.cli.output.run_facts import RunFacts
    from rankport.sdk.cli.output.writing import write_json

    chosen = {
        option: value for row in EXPORT_KINDS for option, value in values_of(row.options, given).items()
    }
    if kind is None:
        with importing():
            from rankport.exporters.kinds.claims import claimed_kind

        claimed = claimed_kind(checkpoint, given["base"])
        plain_console(stderr=True).print(str(claimed), highlight=False, markup=False, soft_wrap=True)
        kind = claimed.kind
    # Checked before torch is imported where the kind is named: a slip should not cost seconds.
    options = options_of(kind, chosen)
    with importing():
        from rankport.exporters.export import run_export
        from rankport.exporters.proof.prove import Proof
        from rankport.runtime.bundle.manifest import Manifest, Target

    console, reports = plain_console(stderr=True), list[ProofReport]()

    def take(manifest: Manifest, proofs: Mapping[Target, Proof], failures: Sequence[str]) -> None:
        reports.append(ProofReport(manifest, proofs, failures, RunFacts.of_this()))

    try:
        with steps(console) as on_step:
            bundle = run_export(checkpoint, out, kind, options, on_step, take)
    except ParityError:
        for report in reports:
            write_json(json_file, {"bundle": str(out), **report.as_json()})
            write_html(html_file, report)
        raise
    (report,) = reports
    print_manifest(console, bundle.manifest)
    print_run(console, report.run)
    print_plans(console, check_plans(bundle))
    console.print(f"bundle: {bundle.path}", soft_wrap=True)
    write_json(json_file, bundle.manifest.model_dump(mode="json"))
    write_html(html_file, replace(report, manifest=bundle.manifest))
