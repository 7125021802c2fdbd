"""`rankport nearline`."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Annotated, Any

import typer

from rankport.runtime.config import EngineConfig, engine_config
from rankport.runtime.nearline.config import NearlineConfig
from rankport.sdk.cli.flags.dataclass_options import filled, flags_of, takes
from rankport.sdk.cli.flags.encoder import BundleOrServerFlag, DeviceIdFlag, SideFlag, TokenDtypeFlag
from rankport.sdk.cli.flags.model import opened_model, refuse_device
from rankport.sdk.client import Client


@takes(*flags_of(NearlineConfig), *flags_of(EngineConfig, only=("device",)))
def nearline(
    redis: Annotated[
        str, typer.Option(metavar="URL", help="Redis with the stream: redis://HOST:PORT/DATABASE.")
    ],
    store: Annotated[
        str, typer.Option(help="Token store to keep fresh: directory or redis://…; made if not there.")
    ],
    bundle: BundleOrServerFlag = None,
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Server that makes them, in place of --bundle.")
    ] = None,
    model: Annotated[str, typer.Option(help="Encoder of --server; may be left out if it has only one.")] = "",
    device_id: DeviceIdFlag = 0,
    side: SideFlag = None,
    token_dtype: TokenDtypeFlag = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve /metrics and /healthz here. [default: not]")
    ] = None,
    metrics_host: Annotated[
        str | None,
        typer.Option(
            help="Address of --metrics-port, in clear and for whoever reaches it. [default: 127.0.0.1]"
        ),
    ] = None,
    **given: Any,
) -> None:
    """Keep the tokens of a store fresh: encode changes of items as they come in a stream of Redis.

    An entry has an id, a text and a version; or an id, a version and op=delete. It is acknowledged once its tokens are
    stored, so a consumer killed at any moment loses nothing, and any number of them run side by side. Ends on SIGTERM
    or SIGINT, after the batch that it is at.

    Exit codes: 0 stopped; 1 the bundle or the store cannot be used, or the encoder broke; 2 what was asked is wrong.
    """
    from rankport.protos.installed.extras import extras_named

    with extras_named("rankport nearline", "redis"):
        from rankport.runtime.nearline.consumer import NearlineConsumer
        from rankport.runtime.nearline.status_page import StatusPage
        from rankport.runtime.nearline.stream import ChangeStream
        from rankport.runtime.store.redis_store.connection import RedisConnection
    from rankport.runtime.jobs.encode_job import namespace_of
    from rankport.runtime.jobs.storable import storable
    from rankport.runtime.kinds.table import load_encoder
    from rankport.runtime.server.logs import log_to_stderr
    from rankport.runtime.store.opening import open_store
    from rankport.runtime.store.redis_store.location import DEFAULT_PREFIX, RedisLocation
    from rankport.sdk.offline import of_side, served_encoder

    log_to_stderr(False)
    config = filled(NearlineConfig, given)
    refuse_device(server, given["device"], device_id)
    if metrics_host is not None and metrics_port is None:
        raise typer.BadParameter("--metrics-host is given without --metrics-port: give both")
    location = RedisLocation.parse(redis, "--redis")
    if location.ttl_ms is not None or location.prefix != DEFAULT_PREFIX:
        raise typer.BadParameter(
            "--redis names a stream: prefix and ttl are of a --store in Redis, give them there"
        )
    with ExitStack() as opened:
        connection = RedisConnection(location, _RETRY_S)  # told before a model is loaded
        opened.callback(connection.close)
        load = partial(load_encoder, config=engine_config(given["device"], device_ids=(device_id,)))
        source = opened.enter_context(opened_model(server, model, bundle, load))
        encoder = served_encoder(source, side) if isinstance(source, Client) else of_side(source, side)
        storable(encoder)
        tokens = opened.enter_context(open_store(store, create=True))
        stream = ChangeStream(connection, config.stream, config.group, config.consumer_name)
        stream.check_begun_with(tokens, encoder.fingerprint)
        namespace = namespace_of(tokens, encoder, token_dtype)
        stream.ensure_group()
        consumer = NearlineConsumer(encoder, namespace, stream, config)
        if metrics_port is not None:
            host = metrics_host or "127.0.0.1"
            page = opened.enter_context(StatusPage(consumer, stream, host, metrics_port))
            typer.echo(f"metrics on {host}:{page.port}", err=True)
        with _stopped_by_signals(consumer.stop):
            typer.echo(f"consuming {config.stream} as {config.consumer_name} of {config.group}", err=True)
            consumer.run()
    typer.echo(f"stopped: {consumer.counts.in_words}", err=True)


_RETRY_S = 5.0


@contextmanager
def _stopped_by_signals(stop: Any) -> Iterator[None]:
    """Calls `stop` on SIGINT and SIGTERM."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
