"""`rankport serve`."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from rankport.runtime.config import CUDA_DEFAULTS, EngineConfig, engine_config
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.settings.setting import Setting
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, given_values, takes
from rankport.sdk.cli.flags.layers import PREFIX, settings, take_layers
from rankport.sdk.cli.process import ended_beside

_ONE_STOP_S = 1.0  # in which signals are one: `timeout` and `uv run` pass on what the process has had already
_OF_DEVICES = {field.name for field in fields(EngineConfig)} - {"device"}
"""Settings of an engine whose defaults may be a device's own."""


@takes(
    *flags_of(ServerConfig, panel="Server"),
    *flags_of(EngineConfig, panel="Engine", only={"device"}),
    *flags_of(EngineConfig, panel="Engine", only=_OF_DEVICES, elsewhere={"CUDA": CUDA_DEFAULTS}),
)
def serve(
    context: typer.Context,
    bundles: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE...",
            help="Bundle directories; NAME=DIRECTORY names one otherwise.",
            envvar=f"{PREFIX}BUNDLES",  # without, an empty command line would hide what other layers say
            show_envvar=False,
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="TOML with any of these settings, by the names of their flags; variables RANKPORT_SERVE_NAME go "
            "before it, flags before both.",
            is_eager=True,
            callback=take_layers,
        ),
    ] = None,
    check_config: Annotated[
        bool,
        typer.Option(
            "--check-config", help="Write all settings with their sources, check files and bundles, and exit."
        ),
    ] = False,
    store: Annotated[str | None, typer.Option(help="Token store that rankers read keys from.")] = None,
    frozen: Annotated[
        bool,
        typer.Option("--frozen", help="Read --store without a lock: nobody writes to it while it is open."),
    ] = False,
    write_back: Annotated[
        bool,
        typer.Option(
            "--write-back", help='Write items that requests have encoded (on_missing "encode") to --store.'
        ),
    ] = False,
    json_log: Annotated[bool, typer.Option("--json-log", help="Write every line as a JSON object.")] = False,
    **given: Any,
) -> None:
    """Serve rankers and item encoders over gRPC, with health and reflection on the same port.

    Says on stdout what it serves and, when it answers, its address; logs to stderr. SIGTERM and SIGINT end it in
    good order: new calls are refused, those in progress finish within --grace-s. A second signal ends it at once.
    SIGHUP does so too where a terminal is closed; elsewhere it changes nothing: certificates and tokens that change are
    read again by themselves.
    """
    for entry in bundles:
        if entry.startswith("="):
            raise typer.BadParameter(f"{entry!r} gives no name: give NAME=DIRECTORY, or the directory alone")
    server = filled(ServerConfig, given)
    engine = engine_config(
        **given_values(EngineConfig, given),
        max_request_tokens=server.max_request_tokens,
        max_queue_s=server.max_queue_s,
    )
    if (frozen or write_back) and store is None:
        raise typer.BadParameter("--frozen and --write-back go with --store")
    if frozen and write_back:
        raise typer.BadParameter("--frozen is of a store that nobody writes to: leave --write-back out")
    if check_config:
        _check(context, bundles, store, server, engine)
    from rankport.runtime.server.lifecycle.load_threads import loads_go_on
    from rankport.runtime.server.logs import log_to_stderr
    from rankport.runtime.server.processes.running import running as serving
    from rankport.runtime.server.processes.supervisor import Work
    from rankport.runtime.server.settings.addresses import check_addresses
    from rankport.sdk.cli.output.serve import ServerLines
    from rankport.sdk.cli.output.service_manager import ServiceManager

    check_addresses(server)
    log_to_stderr(json_log)
    work = Work(bundles, server, engine, store, frozen=frozen, write_back=write_back, json_log=json_log)
    manager = ServiceManager()
    with ended_beside(loads_go_on), serving(work) as running:
        lines = ServerLines(running, json_log)
        lines.models()
        with _stop_signal() as stopped:
            lines.ready()
            manager.ready()
            # A signal that the kernel hands to another thread wakes no lock: its handler runs at the next look.
            while not stopped.wait(0.5):
                if running.goes_on():
                    manager.goes_on()
            manager.stopping()
            lines.stopping()
            running.stop()
            lines.stopped()


def _check(
    context: typer.Context, bundles: list[str], store: str | None, server: ServerConfig, engine: EngineConfig
) -> NoReturn:
    """Writes the settings and what is wrong with them, and exits: 0 if nothing is."""
    from rankport.runtime.server.settings.checks import checks
    from rankport.sdk.cli.output.settings import write_settings

    told = [_of_device(each, context, engine) for each in settings(context)]
    made = list(
        checks(
            bundles,
            store,
            server,
            frozen=context.params["frozen"],
            write_back=context.params["write_back"],
            engine=engine,
        )
    )
    write_settings(told, made, context.params["json_log"])
    raise typer.Exit(1 if any(check.error for check in made) else 0)


def _of_device(setting: Setting, context: typer.Context, engine: EngineConfig) -> Setting:
    """Tells a default that depends on the device."""
    names = {max(flag.opts, key=len): flag.name for flag in context.command.params}
    name = names.get("--" + setting.key.replace("_", "-"))
    if setting.value is not None or name is None or not hasattr(engine, name):
        return setting
    return replace(setting, value=getattr(engine, name))


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Gives an event that SIGINT and SIGTERM set. A later one ends the process at once, whatever it is about."""
    stopped = threading.Event()
    first_s = 0.0

    def stop(number: int, _: object) -> None:
        nonlocal first_s
        if not stopped.is_set():
            first_s = time.monotonic()
            stopped.set()
        elif time.monotonic() - first_s > _ONE_STOP_S:
            os._exit(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if sys.stderr.isatty() else []))
    if len(numbers) == 2:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield stopped
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
