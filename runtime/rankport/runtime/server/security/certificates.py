"""`Certificates`: certificate, key and clients' authorities of a server, read again when their files change."""

import logging
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from rankport.protos.errors import InvalidRequest
from rankport.runtime.server.security.config import SecurityConfig
from rankport.runtime.server.security.files import Stamp, stamp_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Contents of the files at one time, checked."""

    stamp: Stamp
    key: bytes
    chain: bytes
    authorities: bytes | None
    context: ssl.SSLContext

    def for_grpc(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.authorities)


class _LatestContext(ssl.SSLContext):
    """Context that leaves each connection to another one.

    Sessions that clients may take up again, and show no certificate then, are of that one: they end with its files.
    """

    latest: Callable[[], ssl.SSLContext]

    def wrap_bio(self, *ends: Any, **more: Any) -> ssl.SSLObject:
        """Begins a connection over buffers, as asyncio has them."""
        return self.latest().wrap_bio(*ends, **more)

    def wrap_socket(self, *end: Any, **more: Any) -> ssl.SSLSocket:
        """Begins a connection over a socket."""
        return self.latest().wrap_socket(*end, **more)


class Certificates:
    """Certificates by which connections are accepted. Any thread may ask.

    New connections get what the files have then; those that are open keep what they began with. Files that do not go
    together, as while one of two is written, or that cannot be read, change nothing: the log says so once, and every
    connection looks again until they can be used.
    """

    def __init__(self, cert: str, key: str, client_ca: str | None = None) -> None:
        """Reads the files. Raises `InvalidRequest`, with the file and the reason, where they cannot be used."""
        self._cert, self._key, self._client_ca = cert, key, client_ca
        self._lock = threading.Lock()
        self._pair = self._read()
        self._fault = ""  # that keeps them from being read, once told

    @classmethod
    def of(cls, config: SecurityConfig) -> "Certificates | None":
        """Reads those of the settings, None without TLS. Raises as the constructor."""
        if config.tls_cert is None or config.tls_key is None:
            return None
        return cls(config.tls_cert, config.tls_key, config.tls_client_ca)

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Makes the credentials of a gRPC port, which asks at each connection."""
        asked: list[_Pair] = []

        def changed() -> grpc.ServerCertificateConfiguration | None:
            pair = self._current()
            if asked and asked[-1] is pair:
                return None
            asked[:] = [pair]
            return pair.for_grpc()

        return grpc.dynamic_ssl_server_credentials(
            self._pair.for_grpc(),
            changed,  # type: ignore[arg-type]  # None, which the stub leaves out, is "as before"
            require_client_authentication=self._client_ca is not None,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """Makes the context of another port, whose every connection is one of the files as they are then."""
        context = _LatestContext(ssl.PROTOCOL_TLS_SERVER)
        context.latest = lambda: self._current().context
        return context

    def _current(self) -> _Pair:
        with self._lock:
            if self._stamp() != self._pair.stamp:
                self._take_up()
            else:
                self._fault = ""
            return self._pair

    def _take_up(self) -> None:
        try:
            self._pair = self._read()
        except InvalidRequest as error:
            if str(error) != self._fault:
                _log.error("the certificate stays as it was: %s", error)
            self._fault = str(error)
        else:
            self._fault = ""
            _log.info("certificate %s is read again", self._cert)

    def _stamp(self) -> Stamp:
        try:
            return stamp_of(*self._files)
        except OSError:
            return (0,)  # no file has it

    @property
    def _files(self) -> tuple[str, ...]:
        return (self._cert, self._key, *([self._client_ca] if self._client_ca is not None else []))

    def _read(self) -> _Pair:
        try:
            stamp = stamp_of(*self._files)
            cert, key, *authorities = (Path(file).read_bytes() for file in self._files)
        except OSError as error:
            raise InvalidRequest(f"{error.filename} cannot be read: {error.strerror}") from error
        context = _loaded(self._files)
        if self._stamp() != stamp:
            raise InvalidRequest(f"{self._cert} changed while it was read: it is read again")
        if reason := _refusal(self._cert, context):
            _log.error("certificate %s is used, and clients refuse it: %s", self._cert, reason)
        return _Pair(stamp, key, cert, authorities[0] if authorities else None, context)


def _loaded(files: Sequence[str]) -> ssl.SSLContext:
    cert, key, *authorities = files
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InvalidRequest(
            f"{cert} and {key} are no certificate and its key in PEM without a password: {error}"
        ) from error
    for file in authorities:
        context.verify_mode = ssl.CERT_REQUIRED
        # With tickets a client could go on from session to session long after its certificate has expired.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            context.load_verify_locations(file)
        except OSError as error:
            raise InvalidRequest(f"{file} has no certificate in PEM: {error}") from error
    return context


def _refusal(cert: str, server: ssl.SSLContext) -> str:
    """Says why a client that trusts a certificate itself would refuse it now: it has expired, or is of later."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cert)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    asks = client.wrap_bio(to_client, to_server)
    answers = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (asks, answers, asks):
        try:
            end.do_handshake()
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except ssl.SSLError:  # it waits for the other end
            pass
    return ""


def _no_password() -> str:
    raise ValueError("the key has a password")
