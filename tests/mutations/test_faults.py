"""Every planted fault is told by `verify`, by name; the bundles that they are planted into pass."""

from pathlib import Path

import pytest

from mutations.fault import Fault, Subject
from mutations.table import FAULTS, PAGE, table
from rankport.exporters.verify import verify
from rankport.protos.errors import RankportError
from support.effort import full_effort

FEW = {"half", "by_group", "fp8", "owned", "hybrid", "keyed", "gathered_sets"}
"""Subjects of one more form, seconds each, and their faults: under full effort."""


def marked(case: object, subject: str) -> object:
    """Leaves those of `FEW` to full effort."""
    return pytest.param(case, marks=full_effort) if subject in FEW else pytest.param(case)


def complaints(subject: Subject) -> str:
    """What `verify` says of a bundle; empty if it holds."""
    try:
        return "\n".join(verify(subject.bundle.path, subject.checkpoint, **subject.options).failures)
    except RankportError as error:
        return str(error)


@pytest.mark.parametrize("name", [marked(name, name) for name in sorted({fault.subject for fault in FAULTS})])
def test_the_sound_bundle_passes(name: str, request: pytest.FixtureRequest) -> None:
    assert complaints(request.getfixturevalue(name)) == ""


@pytest.mark.parametrize(
    "fault",
    [marked(fault, fault.subject) for fault in FAULTS],
    ids=[fault.name.replace(" ", "-") for fault in FAULTS],
)
def test_the_fault_is_told(fault: Fault, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    said = complaints(fault.plant(request.getfixturevalue(fault.subject), tmp_path))
    assert fault.told_by in said
    assert [mode for mode in fault.unseen_by if mode in said] == []


def test_the_page_lists_every_fault_and_what_tells_it() -> None:
    assert PAGE.read_text(encoding="utf-8").endswith(f"\n\n{table()}"), (
        "run python -m mutations.table in tests"
    )


def test_names_of_faults_are_distinct() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 40
