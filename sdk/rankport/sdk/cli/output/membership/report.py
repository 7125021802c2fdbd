"""Terminal summary, JSON file and page of a membership audit."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rankport.sdk.cli.output.membership.page import page
from rankport.sdk.cli.output.membership.words import HEADINGS, attack_rows, facts
from rankport.sdk.cli.output.run_facts import RunFacts
from rankport.sdk.cli.output.writing import write_file, write_json
from rankport.sdk.membership.report import MembershipReport


def print_membership(console: Console, report: MembershipReport) -> None:
    """Prints what was looked at, a row an attack, and the notes."""
    for name, value in facts(report).items():
        console.print(f"{name}: {value}", soft_wrap=True, highlight=False, markup=False)
    table = Table()
    for place, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if place else "left", overflow="fold")
    for row in attack_rows(report):
        table.add_row(*row)
    console.print(table)
    for note in report.notes:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, highlight=False, markup=False)
    console.print(report.verdict, soft_wrap=True, highlight=False, markup=False)


def write_membership(report: MembershipReport, json_file: Path | None, html_file: Path | None) -> None:
    """Writes the files that are named."""
    run = RunFacts.of_this()
    write_json(json_file, {**report.as_json(), "verdict": report.verdict, "run": asdict(run)})
    if html_file is not None:
        write_file("--html", html_file, page(report, run))
