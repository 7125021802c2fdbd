"""Server for gRPC: its port, its event loop in a thread of its own, its start and its graceful stop."""

import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rankport.protos.errors import Unavailable
from rankport.protos.types import ModelDescription
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.kinds.kind import Model
from rankport.runtime.server.calls import Calls
from rankport.runtime.server.config import DEFAULTS, ServerConfig
from rankport.runtime.server.counts import CallCounts
from rankport.runtime.server.grpc.classification import ClassificationService
from rankport.runtime.server.grpc.embedding import EmbeddingService
from rankport.runtime.server.grpc.models import ModelsService
from rankport.runtime.server.grpc.scoring import ScoringService
from rankport.runtime.server.grpc.tagging import TaggingService
from rankport.runtime.server.models import ServedModels
from rankport.runtime.server.submitter import Submitter

_log = logging.getLogger(__name__)
# Streams that never end by themselves, such as health watches, are cut off this long after the last call.
_LINGER_S = 0.5
_HEALTH_PERIOD_S = 0.5
_SERVICES = tuple(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())
_STATUS = {
    True: health_pb2.HealthCheckResponse.SERVING,
    False: health_pb2.HealthCheckResponse.NOT_SERVING,
}


class Server:
    """Serves models that its caller loaded, and closes, over gRPC.

    >>> with Server({"jobs": ranker}, ServerConfig(port=0)) as server:
    ...     Client(server.address).score(prefix, items)
    """

    def __init__(self, models: Mapping[str, Model], config: ServerConfig = DEFAULTS) -> None:
        """Takes the models by the names that requests use. Raises `InvalidRequest` if there is none."""
        self._models = ServedModels(models)
        self._config = config
        self._calls = Calls(config.max_pending_calls)
        self._bound: Future[int] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_asked: asyncio.Event = asyncio.Event()
        self._grace_s = config.grace_s
        self._switch_before_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="rankport-server", daemon=True)

    def start(self) -> Self:
        """Returns when calls are answered. Raises `Unavailable` if the address cannot be taken."""
        self._thread.start()
        self._bound.result()
        self._switch_soon()
        return self

    @property
    def port(self) -> int:
        """Port that it listens on, also where the config says 0. Waits for `start`."""
        return self._bound.result()

    @property
    def address(self) -> str:
        """host:port, for a client on this machine."""
        return _host_port(self._config.host, self.port)

    @property
    def models(self) -> tuple[ModelDescription, ...]:
        """Descriptions of what it serves, under the names of requests."""
        return self._models.descriptions()

    @property
    def counts(self) -> CallCounts:
        """Calls by outcome, readable from any thread."""
        return self._calls.counts

    def stop(self, grace_s: float | None = None) -> None:
        """Refuses new calls with UNAVAILABLE, finishes those in progress, cuts off the rest after `grace_s`.

        Returns when the port is free. `grace_s` defaults to the config's. May be called twice, and before
        `start`.
        """
        if self._loop is None:
            return
        self._grace_s = self._config.grace_s if grace_s is None else grace_s
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop_asked.set)
        self._thread.join()
        self._switch_as_before()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _switch_soon(self) -> None:
        if self._config.switch_interval_s is not None:
            self._switch_before_s = sys.getswitchinterval()
            sys.setswitchinterval(self._config.switch_interval_s)

    def _switch_as_before(self) -> None:
        if self._switch_before_s is not None:
            sys.setswitchinterval(self._switch_before_s)
            self._switch_before_s = None

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._bound.done():
                _log.exception("the server ended")
            else:
                self._bound.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        submitter = Submitter(self._config.tokenizer_threads)
        server = grpc.aio.server(options=_options(self._config))
        status = await self._add_services(server, submitter)
        port = _bind(server, self._config)
        await server.start()
        self._bound.set_result(port)
        watch = asyncio.create_task(self._watch_health(status))
        await self._stop_asked.wait()
        watch.cancel()
        await status.enter_graceful_shutdown()
        finished = await self._calls.drain(self._grace_s)
        await server.stop(_LINGER_S if finished else None)
        submitter.close()

    async def _add_services(self, server: grpc.aio.Server, submitter: Submitter) -> health.aio.HealthServicer:
        models, calls = self._models, self._calls
        embedding = EmbeddingService(models, calls, submitter, self._config.stream_window)
        status = health.aio.HealthServicer()
        pb_grpc.add_ScoringServicer_to_server(ScoringService(models, calls, submitter), server)
        pb_grpc.add_EmbeddingServicer_to_server(embedding, server)
        pb_grpc.add_TaggingServicer_to_server(TaggingService(models, calls, submitter), server)
        classification = ClassificationService(models, calls, submitter)
        pb_grpc.add_ClassificationServicer_to_server(classification, server)
        pb_grpc.add_ModelsServicer_to_server(ModelsService(models, calls), server)
        health_pb2_grpc.add_HealthServicer_to_server(status, server)
        names = (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        await self._report_health(status)
        return status

    async def _watch_health(self, status: health.aio.HealthServicer) -> None:
        """Reports health: a model whose engine stopped no longer counts as serving, nor does the server as a whole."""
        while True:
            await asyncio.sleep(_HEALTH_PERIOD_S)
            await self._report_health(status)

    async def _report_health(self, status: health.aio.HealthServicer) -> None:
        alive = self._models.alive()
        together = dict.fromkeys(("", *_SERVICES), all(alive.values()))
        for name, serving in (together | alive).items():
            await status.set(name, _STATUS[serving])


def _bind(server: grpc.aio.Server, config: ServerConfig) -> int:
    address = _host_port(config.host, config.port)
    try:
        _try_to_bind(config)  # gRPC would not say what is wrong
        return server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "gRPC refused it"
        raise Unavailable(f"cannot listen on {address}: {reason}; choose another host or port") from error


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _try_to_bind(config: ServerConfig) -> None:
    """Raises the `OSError` of an address that is taken, forbidden or unknown."""
    addresses = socket.getaddrinfo(
        config.host.strip("[]"), config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = addresses[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC, past what lingers of a server
        probe.bind(address)


def _options(config: ServerConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        # Two servers on one port would share its calls at random; the second one fails instead.
        ("grpc.so_reuseport", 0),
        # Clients that vanished without a word are noticed, and their work dropped.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients may do the same at this pace.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]
