"""`rankport serve`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rankport.runtime.config import CUDA_DEFAULTS as CUDA
from rankport.runtime.config import DEFAULTS as ENGINE
from rankport.runtime.server.config import DEFAULTS as SERVER
from rankport.sdk.cli.device_options import gpu_numbers, size_in_bytes

if TYPE_CHECKING:
    import threading

    from rankport.protos.types import ModelDescription

_ENGINE = "Engine"
_SERVER = "Server"
_SWITCH_INTERVAL_S = 2e-4
"""Threads that read and tokenize requests let the one that drives the device go on this soon: by default it would wait
5 ms for each of them after every call of the device, far longer than a pass takes."""


def _knob(name: str, does: str, **more: Any) -> Any:
    """An option whose default depends on the device."""
    default = f"[default: {getattr(ENGINE, name)}; on CUDA {getattr(CUDA, name)}]"
    return typer.Option(help=f"{does} {default}", rich_help_panel=_ENGINE, **more)


def serve(
    bundles: Annotated[
        list[str],
        typer.Argument(metavar="BUNDLE...", help="Bundle directories; NAME=DIRECTORY names one otherwise."),
    ],
    store: Annotated[Path | None, typer.Option(help="Token store that mix rankers read keys from.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = SERVER.host,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = SERVER.port,
    max_pending_calls: Annotated[
        int, typer.Option(help="Calls worked on or waiting; more are refused.", rich_help_panel=_SERVER)
    ] = SERVER.max_pending_calls,
    max_message_bytes: Annotated[
        int, typer.Option(help="Largest message in or out.", rich_help_panel=_SERVER)
    ] = SERVER.max_message_bytes,
    tokenizer_threads: Annotated[
        int, typer.Option(help="Threads that read and tokenize requests.", rich_help_panel=_SERVER)
    ] = SERVER.tokenizer_threads,
    stream_window: Annotated[
        int, typer.Option(help="Messages of one encode stream worked on.", rich_help_panel=_SERVER)
    ] = SERVER.stream_window,
    grace_s: Annotated[
        float, typer.Option(help="Time for calls in progress at a stop.", rich_help_panel=_SERVER)
    ] = SERVER.grace_s,
    max_batch_tokens: Annotated[int | None, _knob("max_batch_tokens", "Tokens of items in one pass.")] = None,
    max_prefill_tokens: Annotated[
        int | None, _knob("max_prefill_tokens", "Tokens of prefixes in one pass.")
    ] = None,
    max_active_requests: Annotated[
        int | None, _knob("max_active_requests", "Requests whose passes interleave.")
    ] = None,
    max_queued_requests: Annotated[
        int | None, _knob("max_queued_requests", "Requests that wait for their first pass.")
    ] = None,
    max_queued_tokens: Annotated[
        int | None, _knob("max_queued_tokens", "Tokens that those have together.")
    ] = None,
    prefix_cache_bytes: Annotated[
        int | None,
        _knob(
            "prefix_cache_bytes",
            "Prefix KV kept across requests, of each device, in bytes or as 4GiB; 0 keeps none.",
            parser=size_in_bytes,
            metavar="SIZE",
        ),
    ] = None,
    device: Annotated[
        Literal["cpu", "cuda", "tensorrt"],
        typer.Option(
            help="Where passes are computed; cuda takes bundles exported with --target onnx-cuda, tensorrt the plans "
            "of `rankport build`.",
            rich_help_panel=_ENGINE,
        ),
    ] = ENGINE.device,
    device_ids: Annotated[
        str,
        typer.Option(
            help="GPUs that each get a replica of every model: numbers from 0 on, 0,1, or all.",
            metavar="NUMBERS",
            rich_help_panel=_ENGINE,
        ),
    ] = "0",
    device_tokens: Annotated[
        int,
        typer.Option(
            help="Embedding tokens of --store that each mix ranker keeps on its GPUs, in bytes or as 4GiB (4 bytes a "
            "value), from the first key on; requests that name their keys then send none. Needs --device cuda.",
            parser=size_in_bytes,
            metavar="SIZE",
            rich_help_panel=_ENGINE,
        ),
    ] = ENGINE.device_tokens_bytes,
    device_tokens_refresh_s: Annotated[
        float,
        typer.Option(
            help="Seconds from one look at --store for changes of these to the next.", rich_help_panel=_ENGINE
        ),
    ] = ENGINE.device_tokens_refresh_s,
    threads: Annotated[
        int, typer.Option(help="Compute threads a model; 0: one per core.", rich_help_panel=_ENGINE)
    ] = ENGINE.threads,
    prepacking: Annotated[
        Literal["throughput", "footprint"],
        typer.Option(help="Pack weights for speed, or share them in memory.", rich_help_panel=_ENGINE),
    ] = ENGINE.prepacking,
    json_log: Annotated[bool, typer.Option("--json-log", help="Write every line as a JSON object.")] = False,
) -> None:
    """Serve rankers and item encoders over gRPC, with health and reflection on the same port.

    Says on stdout what it serves and, when it answers, its address; logs to stderr. SIGTERM and SIGINT end it in
    good order: new calls are refused, those in progress finish within --grace-s. A second signal ends it at once.
    """
    for entry in bundles:
        if entry.startswith("="):
            raise typer.BadParameter(f"{entry!r} gives no name: give NAME=DIRECTORY, or the directory alone")
    from dataclasses import replace

    from rankport.runtime.config import engine_config
    from rankport.runtime.server.grpc.server import Server
    from rankport.runtime.server.loading import loaded_models

    server_config = replace(
        SERVER,
        host=host,
        port=port,
        max_message_bytes=max_message_bytes,
        max_pending_calls=max_pending_calls,
        tokenizer_threads=tokenizer_threads,
        stream_window=stream_window,
        grace_s=grace_s,
    )
    engine = engine_config(
        device,
        max_batch_tokens=max_batch_tokens,
        max_prefill_tokens=max_prefill_tokens,
        max_active_requests=max_active_requests,
        max_queued_requests=max_queued_requests,
        max_queued_tokens=max_queued_tokens,
        prefix_cache_bytes=prefix_cache_bytes,
        device_ids=gpu_numbers(device_ids),
        device_tokens_bytes=device_tokens,
        device_tokens_refresh_s=device_tokens_refresh_s,
        threads=threads,
        prepacking=prepacking,
    )
    _log_to_stderr(json_log)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with loaded_models(bundles, store, engine) as models, Server(models, server_config) as server:
        for description in server.models:
            _say(json_log, _line(description), event="model", **_facts(description))
        with _stop_signal() as stopped:
            _say(json_log, f"ready on {server.address}", event="ready", address=server.address)
            # A signal that the kernel hands to another thread wakes no lock: its handler runs at the next look.
            while not stopped.wait(0.5):
                pass
        _say(json_log, "stopping", event="stopping")
        server.stop()
        counts = server.counts.snapshot()
        summary = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
        _say(json_log, f"stopped: {summary}", event="stopped", calls=counts)


@contextmanager
def _stop_signal() -> "Iterator[threading.Event]":
    """An event that SIGINT and SIGTERM set. Either of them ends the process at once when it comes again."""
    import signal
    import threading

    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stopped.set()) for number in numbers]
    try:
        yield stopped
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _log_to_stderr(json_log: bool) -> None:
    import logging

    from rankport.runtime.server.logs import JsonFormatter

    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if json_log else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _say(json_log: bool, message: str, **facts: Any) -> None:
    import json

    from rankport.sdk.cli.writing import writing

    with writing("standard output"):
        print(json.dumps(facts) if json_log else message, flush=True)


def _line(model: "ModelDescription") -> str:
    takes = f"items as {', '.join(model.item_forms)}"
    tokens = f", {model.embedding_tokens} token(s) an item" if model.embedding_tokens else ""
    return (
        f"{model.kind} {model.name} {model.version}: {model.architecture} {model.precision}, {takes}{tokens}, "
        f"fingerprint {model.fingerprint[:12]}"
    )


def _facts(model: "ModelDescription") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(model)
