"""Membership audit end to end: two encoders of titles, trained, exported, audited. `python -m examples.audit.run`

Users are occupations, texts their titles. One encoder is trained on few users for long; the other on more, and stopped
when other users' loss was least. Both are audited on titles of their members that nothing was trained on, and beside
that on the very titles of the training. Writes build/audit: checkpoints, bundles, the audits' pages and report.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import nn
from transformers.utils.logging import disable_progress_bar

from benchmarks.machine import describe_machine
from examples.arguments import add_out
from examples.audit.dataset import AuditSets, read_users, split, write_users
from examples.audit.training import Recipe, UserStates, save, train
from examples.intent.training import Body
from rankport.runtime.bundle.bundle import Bundle
from rankport.sdk import MembershipReport, audit_membership, export
from rankport.sdk.cli.output.membership.report import write_membership
from rankport.sdk.cli.output.progress import steps

OUT = Path("build/audit")
VALIDATION, NON_MEMBERS = 200, 400
FOUND = 0.8  # AUC by which the overfitted encoder is found


def main() -> None:
    """Runs both encoders and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_out(parser, OUT)
    out: Path = parser.parse_args().out
    disable_progress_bar()
    console, begun = Console(), time.perf_counter()
    body, users = Body.load(), read_users()
    few, many = split(users, 100, VALIDATION), split(users, 400, VALIDATION)
    report: dict[str, Any] = {}
    with steps(console) as say:

        def audited(name: str, sets: AuditSets, linear: nn.Linear, facts: Mapping[str, object]) -> None:
            say(f"{name}: exporting")
            bundle = export(
                save(body, linear, out / name),
                out / f"{name}.bundle",
                kind="item-encoder",
                overwrite=True,
                on_progress=lambda step: say(f"{name}: {step}"),
            )
            say(f"{name}: auditing")
            report[name] = {**facts, **audits(bundle, sets, out / name)}

        say("training on few users for long")
        trained = train(
            UserStates.of(body, few.trained),
            UserStates.of(body, few.validation),
            Recipe(rate=1e-2, steps=800),
        )
        audited("overfitted", few, trained.longest, {"users": 100, "steps": 800})
        say("training on more users, stopped in time")
        trained = train(
            UserStates.of(body, many.trained),
            UserStates.of(body, many.validation),
            Recipe(rate=3e-3, steps=60),
        )
        audited("stopped", many, trained.stopped, {"users": 400, "steps": trained.stopped_at})
    print_table(console, report)
    report |= {"seconds": time.perf_counter() - begun, "machine": describe_machine()}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"[dim]{out / 'report.json'}; {report['seconds']:.0f} s")
    if report["overfitted"]["other titles"]["auc"] < FOUND:
        sys.exit(f"the overfitted encoder is not found: its AUC is below {FOUND}")
    if report["stopped"]["other titles"]["low"] > 0.5:
        sys.exit("the encoder that was stopped in time is above chance")


def audits(bundle: Bundle, sets: AuditSets, out: Path) -> dict[str, dict[str, float]]:
    """Audits an encoder on its members' other titles, which is the question, and on those that it was trained on."""
    others = dict(list(sets.non_members.items())[:NON_MEMBERS])
    against = write_users(others, out / "non_members.csv")
    figures = {}
    for titles, members in (("other titles", sets.members), ("trained titles", sets.trained)):
        file = write_users(members, out / f"members_{titles.split()[0]}.csv")
        made = audit_membership(bundle.path, file, against, null_rounds=20)
        write_membership(made, out / f"{titles.split()[0]}.json", out / f"{titles.split()[0]}.html")
        figures[titles] = whole(made)
    return figures


def whole(report: MembershipReport) -> dict[str, float]:
    """Takes the figures of the attack that looks at everything."""
    auc = report.attacks[0].figures.auc
    return {"auc": auc.value, "low": auc.low, "high": auc.high}


def print_table(console: Console, report: Mapping[str, Any]) -> None:
    """Prints the AUC of each audit."""
    table = Table("encoder", "users", "steps", "AUC, other titles", "AUC, trained titles", title="Membership")
    for name, row in report.items():
        cells = [
            f"{row[titles]['auc']:.3f} ({row[titles]['low']:.3f} to {row[titles]['high']:.3f})"
            for titles in ("other titles", "trained titles")
        ]
        table.add_row(name, str(row["users"]), str(row["steps"]), *cells)
    console.print(table)


if __name__ == "__main__":
    main()
