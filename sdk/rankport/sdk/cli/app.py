"""Command tree, whose errors are one line and an exit code."""

import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from rankport.protos.errors import RankportError

_EXTRAS = {
    "torch": "export",
    "transformers": "export",
    "safetensors": "export",
    "matplotlib": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "onnxruntime": "runtime",
    "tokenizers": "runtime",
    "lmdb": "runtime",
    "pydantic": "runtime",
    "grpc_health": "runtime",
    "pyarrow": "parquet",
    "cuda": "tensorrt-rtx",
}

_HELP = """Take a trained LLM ranker or item encoder from checkpoint to production.

The usual order:

```
rankport export ENCODER --kind item-encoder --pooling mean --out encoder.bundle
rankport export RANKER --kind ranker --item-encoder encoder.bundle --labels yes,no --out ranker.bundle
rankport encode --bundle encoder.bundle --items items.csv --store tokens.lmdb
rankport serve ranker.bundle encoder.bundle --store tokens.lmdb --port 8500
rankport score --server localhost:8500 --prefix "query" --keys item-1 item-2
```
"""


_COMMANDS = (
    "export",
    "verify",
    "inspect",
    "ground",
    "encode",
    "serve",
    "score",
    "tag",
    "classify",
    "doctor",
    "build",
    "audit",
)
_GROUPS = ("audit",)  # of further commands


class _Commands(TyperGroup):
    """Group that imports the module of a command when it is chosen: what one lacks keeps no other from running."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _command(cmd_name) if cmd_name in _COMMANDS else None


def _command(name: str) -> Any:
    """Imports a command."""
    command = getattr(import_module(f"rankport.sdk.cli.commands.{name}"), name)
    if name in _GROUPS:
        app = command()
    else:
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        app.command(name=name)(command)
    loaded = typer.main.get_command(app)
    loaded.name = name
    return loaded


def command_tree() -> typer.Typer:
    """Builds the command tree."""
    app = typer.Typer(
        cls=_Commands, help=_HELP, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown"
    )
    app.callback()(_main)
    return app


def _main() -> None:
    """Does nothing before a command."""


def run() -> None:
    """Runs the command line of this process and exits."""
    _run(command_tree())


def run_command(name: str, arguments: Sequence[str], program: str) -> None:
    """Runs one command, that another program offers as its own, and exits. `program` is what its help calls it."""
    _run(partial(_command(name), args=list(arguments), prog_name=program))


def _run(command: Callable[[], object]) -> None:
    # As Ctrl-C does, a terminated command cleans up what it has half made. `serve` has a handler of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        command()
    except RankportError as error:
        sys.stderr.write(f"rankport: {type(error).__name__}: {error}\n")
        sys.exit(1)
    except OSError as error:
        sys.stderr.write(f"rankport: {type(error).__name__}: {error}\n")
        sys.exit(1)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        sys.stderr.write(f"rankport: this command needs {error.name}: pip install 'rankport[{extra}]'\n")
        sys.exit(1)
