"""Builds the command tree and turns errors into one line and an exit code."""

import signal
import sys

import typer

from rankport.protos.errors import RankportError
from rankport.sdk.cli.audit import audit
from rankport.sdk.cli.build import build as build_command
from rankport.sdk.cli.doctor import doctor
from rankport.sdk.cli.encode import encode
from rankport.sdk.cli.export import export
from rankport.sdk.cli.ground import ground
from rankport.sdk.cli.inspect import inspect
from rankport.sdk.cli.score import score
from rankport.sdk.cli.serve import serve
from rankport.sdk.cli.verify import verify

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


def build() -> typer.Typer:
    """The command tree."""
    app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")
    for command in (export, verify, inspect, ground, encode, serve, score, doctor):
        app.command()(command)
    app.command(name="build")(build_command)
    app.add_typer(audit(), name="audit")
    return app


def run() -> None:
    """Runs the command line of this process and exits."""
    # As Ctrl-C does, a terminated command cleans up what it has half made. `serve` has a handler of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        build()()
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
