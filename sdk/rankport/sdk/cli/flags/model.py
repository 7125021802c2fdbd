"""Model that a command asks: one of a server, or that of a bundle in this process; and how long it may take."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import typer

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.errors import InvalidRequest
from rankport.protos.priorities import Priority
from rankport.protos.priorities import priority as priority_block
from rankport.sdk.client import Client

LoadedT = TypeVar("LoadedT")


@contextmanager
def opened_model(
    server: str | None,
    model: str,
    bundle: Path | None,
    load: Callable[[Path], AbstractContextManager[LoadedT]],
    store: str | None = None,
    priority: Priority | None = None,
) -> Iterator[Client | LoadedT]:
    """Opens what the flags name for the block, whose requests are of a priority; `load` opens `store`.

    Raises `BadParameter` unless they name one, and for a flag that goes with the other.
    """
    if (server is None) == (bundle is None):
        raise typer.BadParameter("give either --server or --bundle")
    if server is not None:
        from rankport.sdk.cli.flags.connection import connected

        if store is not None:
            raise typer.BadParameter("--store goes with --bundle; a server has its own")
        with connected(server, model) as client, _block_of(priority):
            yield client
        return
    if model:
        raise typer.BadParameter("--model goes with --server; a bundle is one model")
    if priority not in (None, "interactive"):
        raise typer.BadParameter("--priority goes with --server; in process nobody else waits")
    assert bundle is not None
    with load(bundle) as loaded:
        yield loaded


def _block_of(priority: Priority | None) -> AbstractContextManager[object]:
    return nullcontext() if priority is None else priority_block(priority)


def refuse_device(server: str | None, device: str, device_id: int = 0) -> None:
    """Raises `BadParameter` for a device beside a server."""
    if server is not None and (device, device_id) != ("cpu", 0):
        flag = "--device" if device != "cpu" else "--device-id"
        raise typer.BadParameter(f"{flag} goes with --bundle; a server has its own")


def timeout_of(timeout_s: float | None) -> float | None:
    """Checks --timeout-s. Raises `BadParameter`."""
    try:
        return checked_timeout_s(timeout_s)
    except InvalidRequest as error:
        raise typer.BadParameter(str(error), param_hint="--timeout-s") from error
