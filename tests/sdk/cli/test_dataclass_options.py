"""Flags made of dataclasses: their types, defaults, ranges and help, and the dataclass made of them again."""

import os
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from rankport.protos.flags import flag, in_range
from rankport.runtime.config import EngineConfig
from rankport.sdk.cli.app import command_tree
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, given_values, takes


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


WIDE = {"COLUMNS": "200", "TERM": "dumb"}


@dataclass(frozen=True, slots=True)
class Knobs:
    count: int = field(default=3, metadata=flag("How many.", least=1))
    form: Literal["round", "flat"] = field(default="round", metadata=flag("Which form.", name="--shape"))
    cache: int = field(default=2**20, metadata=flag("How much is kept.", form="size"))
    device_ids: tuple[int, ...] = field(default=(0,), metadata=flag("Which GPUs.", form="gpus"))
    pairs: tuple[int, ...] | None = field(default=None, metadata=flag("Which pairs."))
    names: tuple[str, ...] = field(
        default=("a",), metadata=flag("Which names.", name="--name", form="repeat")
    )
    quick: bool = field(default=False, metadata=flag("Not so well.", name="--quick"))
    place: str | os.PathLike[str] | None = field(default=None, metadata=flag("Where."))
    inner: int = field(default=7, metadata=in_range(least=1))  # has no flag


LARGE = Knobs(count=9)


def run(*arguments: str, **how: Any) -> tuple[str, list[dict[str, Any]]]:
    """Output of a command that is called with these arguments, and what it was given."""
    taken: list[dict[str, Any]] = []

    @takes(*flags_of(Knobs, **how))
    def command(last: int = 0, **given: Any) -> None:
        """Does it."""
        taken.append(given)

    app = typer.Typer(rich_markup_mode="markdown")
    app.command()(command)
    return CliRunner().invoke(app, arguments, env=WIDE).output, taken


def test_without_a_word_the_options_are_the_defaults() -> None:
    (given,) = run()[1]
    assert filled(Knobs, given) == Knobs()
    assert given_values(Knobs, given)["count"] == 3


def test_every_kind_of_field_is_read() -> None:
    _, (given,) = run(
        *("--count", "4", "--shape", "flat", "--cache", "2GiB", "--device-ids", "1,2", "--pairs", "3, 4"),
        *("--name", "x", "--name", "y", "--quick", "--place", "here"),
    )
    options = filled(Knobs, given)
    assert (options.count, options.form, options.cache, options.device_ids) == (4, "flat", 2**31, (1, 2))
    assert (options.pairs, options.names, options.quick) == ((3, 4), ("x", "y"), True)
    assert os.fspath(options.place or "") == "here"


def test_help_has_the_text_the_default_and_the_range_of_every_field() -> None:
    words = " ".join(run("--help")[0].replace("│", " ").split())
    for described in fields(Knobs):
        assert described.metadata.get("help", "") in words, described.name
    assert "x>=1" in words
    assert "[default: 1MiB]" in words
    assert "--no-quick" not in words
    assert "--inner" not in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--count", "0"), "Invalid value for '--count'"),
        (("--cache", "much"), "is no size"),
        (("--device-ids", "x"), "give numbers of GPUs"),
        (("--inner", "1"), "No such option"),
    ],
)
def test_a_wrong_value_is_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    output, taken = run(*arguments)
    assert message in output
    assert taken == []


def test_pairs_that_are_no_numbers_are_wrong_usage() -> None:
    _, (given,) = run("--pairs", "x")
    with pytest.raises(typer.BadParameter, match="is not a comma-separated list of whole numbers"):
        filled(Knobs, given)


def test_a_default_that_depends_is_told_and_none_where_it_is_not_given() -> None:
    output, _ = run("--help", elsewhere={"Mars": LARGE})
    assert "[default: 3; on Mars 9]" in " ".join(output.replace("│", " ").split())
    _, (given,) = run(elsewhere={"Mars": LARGE})
    assert given_values(Knobs, given)["count"] is None
    assert given_values(Knobs, given)["cache"] == 2**20


def test_serve_has_a_flag_for_every_knob_of_the_engine() -> None:
    output = CliRunner().invoke(command_tree(), ["serve", "--help"], env=WIDE).output
    for described in fields(EngineConfig):
        if "help" in described.metadata:
            assert described.metadata.get("name", f"--{described.name.replace('_', '-')}") in output
