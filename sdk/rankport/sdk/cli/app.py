"""Command tree, whose errors are one line and an exit code."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.protos.installed.extras import extras_named
from rankport.protos.installed.packages import VERSION
from rankport.protos.reasons import reason_with_file
from rankport.sdk.cli.flags.empty_values import refuse_empty
from rankport.sdk.cli.flags.examples import show_example
from rankport.sdk.cli.flags.first_lines import FIRST_LINES
from rankport.sdk.cli.flags.whole_names import fold_names
from rankport.sdk.cli.flags.written import guard_files
from rankport.sdk.cli.flags.wrong_values import usage_fault
from rankport.sdk.cli.output.writing import harmless
from rankport.sdk.cli.process import ended_by_signals, flush_output, importing, open_streams

_HELP = """Take a trained LLM ranker or item encoder from checkpoint to production.

The usual order:

```
rankport export ENCODER --kind item-encoder --pooling mean --out encoder.bundle
rankport export RANKER --kind ranker --item-encoder encoder.bundle --labels yes,no --out ranker.bundle
rankport encode --bundle encoder.bundle --items items.csv --store tokens.lmdb
rankport serve ranker.bundle encoder.bundle --store tokens.lmdb --port 8500
rankport score --server localhost:8500 --prefix "query" --keys item-1 item-2
```

Errors are one line on stderr. Exit codes: 0 done; 2 what was asked is wrong (the command line, an option, an input that
breaks a rule); 1 anything else failed (a file, bundle, checkpoint, store or server cannot be used, a proof misses its
limits); 130, 143 and 129 interrupted, terminated, and its terminal closed.
"""


# By the package that each lies in, in the order of the help.
_COMMANDS = {
    "export": "release",
    "verify": "release",
    "inspect": "release",
    "ground": "release",
    "encode": "catalogue",
    "nearline": "catalogue",
    "store": "catalogue",
    "serve": "serving",
    "models": "serving",
    "jobs": "serving",
    "token": "serving",
    "trie": "release",
    "score": "requests",
    "tag": "requests",
    "classify": "requests",
    "generate": "requests",
    "rank": "requests",
    "doctor": "release",
    "build": "release",
    "audit": "release",
    "loadtest": "serving",
}
_GROUPS = ("audit", "jobs", "models", "store", "token", "trie")  # of further commands


class _Commands(TyperGroup):
    """Group that imports the module of a command when it is chosen: what one lacks keeps no other from running."""

    _lists = False  # while commands are only listed, which needs a line of each

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        return TyperCommand(cmd_name, help=FIRST_LINES[cmd_name]) if self._lists else _command(cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        with self._listing():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        with self._listing():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _listing(self) -> Iterator[None]:
        self._lists = True
        try:
            yield
        finally:
            self._lists = False


def _command(name: str) -> Any:
    """Imports a command."""
    with importing():
        command = getattr(import_module(f"rankport.sdk.cli.commands.{_COMMANDS[name]}.{name}"), name)
    if name in _GROUPS:
        app = command()
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        app.command(name=name)(command)
    loaded = typer.main.get_command(app)
    loaded.name = name
    guard_files(loaded)
    refuse_empty(loaded)
    show_example(loaded, name)
    fold_names(loaded)
    return loaded


def command_tree() -> typer.Typer:
    """Builds the command tree."""
    app = typer.Typer(
        cls=_Commands, help=_HELP, no_args_is_help=True, add_completion=True, rich_markup_mode="markdown"
    )
    app.callback()(_main)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"rankport {VERSION}\n")
        raise typer.Exit


def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Does nothing before a command."""


def run() -> None:
    """Runs the command line of this process and exits."""
    _run(partial(command_tree(), prog_name="rankport"))


def run_command(name: str, arguments: Sequence[str], program: str) -> None:
    """Runs one command, that another program offers as its own, and exits. `program` is what its help calls it."""
    with _failures_told():
        command = _command(name)
    _run(partial(command, args=list(arguments), prog_name=program))


def _run(command: Callable[..., object]) -> None:
    open_streams()
    with _failures_told(), ended_by_signals():
        status = command(standalone_mode=False)
        flush_output()
    sys.exit(status if isinstance(status, int) else 0)


@contextmanager
def _failures_told() -> Iterator[None]:
    """Ends the process with one line for a failure, and the exit code of its kind."""
    try:
        with extras_named("this command"):
            yield
    except _CLICK_EXCEPTION as error:
        _tell_usage(error)
    except InvalidRequest as error:
        if isinstance(
            error.__cause__, OSError
        ):  # what was asked may be right: the system refused a file of it
            _exit(error, 1, type(error.__cause__).__name__)
        _exit(error, 2)
    except (RankportError, OSError, MemoryError) as error:
        _exit(error, 1)


# What a command line that cannot be read raises: typer brings it along, or has it of click, by its version.
_CLICK_EXCEPTION: type[Exception] = next(
    cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException"
)


def _tell_usage(error: Any) -> NoReturn:
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is its message
        error.show()
        sys.exit(2)
    message = usage_fault(error)
    if error.ctx is not None:
        message = f"{message.rstrip('.')} (see {error.ctx.command_path} --help)"
    _exit(InvalidRequest(message), 2)


def _exit(error: Exception, status: int, name: str = "") -> NoReturn:
    # Of a path, or of a server: what a terminal obeys is shown.
    sys.stderr.write(f"rankport: {name or type(error).__name__}: {harmless(reason_with_file(error))}\n")
    with suppress(OSError):  # what cannot be written: Python would tell of it once more, and end with 120
        flush_output()
    sys.exit(status)
