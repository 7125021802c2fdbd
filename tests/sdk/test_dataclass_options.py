"""Flags made of dataclasses: their types, defaults and help, and the dataclass made of them again."""

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from rankport.protos.flags import flag
from rankport.sdk.cli.dataclass_options import filled, flags_of, takes


@dataclass(frozen=True)
class Limits:
    least: float = field(default=0.5, metadata=flag("Least share."))


@dataclass(frozen=True)
class Options:
    words: tuple[str, ...] | None = field(default=None, metadata=flag("Words, comma-separated."))
    ids: tuple[int, ...] | None = field(default=None, metadata=flag("Numbers, comma-separated."))
    where: str | PathLike[str] | None = field(default=None, metadata=flag("A folder."))
    how: Literal["one", "two"] | Literal["three"] | None = field(
        default=None, metadata=flag("How. [default: one]", metavar="HOW")
    )
    either: bool | None = field(default=None, metadata=flag("Either or."))
    memory: int = field(default=7, metadata=flag("Memory.", form="size", panel="Device"))
    limits: Limits = field(default_factory=Limits)
    inner: int = 3


@pytest.fixture
def made() -> list[Options]:
    """What the command below was run with."""
    return []


@pytest.fixture
def app(made: list[Options]) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @takes(*flags_of(Options))
    def command(name: str, **given: Any) -> None:
        made.append(filled(Options, given))

    return app


def test_flags_fill_the_dataclass(app: typer.Typer, made: list[Options]) -> None:
    given = "x --words a,b --ids 1,2 --where w --how three --no-either --memory 2KiB --least 0.25"
    assert CliRunner().invoke(app, given).exit_code == 0
    (options,) = made
    assert options == Options(("a", "b"), (1, 2), Path("w"), "three", False, 2048, Limits(0.25))


def test_what_is_not_given_keeps_its_default(app: typer.Typer, made: list[Options]) -> None:
    assert CliRunner().invoke(app, "x").exit_code == 0
    assert made == [Options()]


@pytest.mark.parametrize(("flag_given", "names"), [("--ids 1,x", "--ids"), ("--how four", "--how")])
def test_a_value_that_is_none_is_wrong_usage(flag_given: str, names: str, app: typer.Typer) -> None:
    run = CliRunner().invoke(app, f"x {flag_given}")
    assert run.exit_code == 2
    assert names in run.output


def test_the_help_is_the_fields(app: typer.Typer) -> None:
    text = CliRunner().invoke(app, "--help").output
    assert "Words, comma-separated." in text
    assert "--inner" not in text


def test_some_fields_can_be_asked_for_alone() -> None:
    assert [parameter.name for parameter in flags_of(Options, only={"how", "least"})] == ["how", "least"]
