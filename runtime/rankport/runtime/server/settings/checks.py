"""Checks of a server's settings against what is there: addresses, certificates, clients, bundles, store, folders."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.protos.installed.extras import extras_named
from rankport.protos.reasons import reason_with_file
from rankport.runtime.backends.choice import view_for
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, Device, EngineConfig
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.table import KINDS
from rankport.runtime.options import check_folder
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.jobs.book import check_jobs_file
from rankport.runtime.server.jobs.roots import JobRoots
from rankport.runtime.server.lifecycle.memory import check_lock
from rankport.runtime.server.lifecycle.saved import read_state
from rankport.runtime.server.loading import check_device_tokens, named_bundles
from rankport.runtime.server.observing.exporting import check_traces, traces_asked_for
from rankport.runtime.server.processes.supervisor import check_fronts
from rankport.runtime.server.security.certificates import Certificates
from rankport.runtime.server.security.guard import Guard
from rankport.runtime.server.settings.addresses import check_addresses, check_reachable
from rankport.runtime.store.keyed_items import paired_tokens
from rankport.runtime.store.opening import open_store
from rankport.runtime.store.redis_store.location import without_password


@dataclass(frozen=True, slots=True)
class Check:
    """Thing that was looked at, and the reason why a server would not start with it; "" if it would."""

    what: str
    error: str = ""


def checks(
    bundles: Sequence[str],
    store: str | None,
    server: ServerConfig,
    *,
    frozen: bool = False,
    write_back: bool = False,
    engine: EngineConfig = DEFAULTS,
    kinds: Sequence[Kind] = KINDS,
) -> Iterator[Check]:
    """Makes all checks, those after one that fails too."""
    security = server.security
    hosts = ", ".join(f"{option} {host}" for option, host in server.hosts.items())
    yield _checked(hosts, lambda: _check_places(server))
    if (missing := _checked("what is installed", lambda: _check_extras(server))).error:
        yield missing
    if traces_asked_for():
        yield _checked("traces", check_traces)
    if server.fronts:
        yield _checked(f"{server.fronts} fronts", lambda: check_fronts(server))
    if security.encrypts:
        yield _checked(f"certificate {security.tls_cert}", lambda: Certificates.of(security))
    if security.token_file is not None:
        yield _checked(f"clients of {security.token_file}", lambda: Guard.of(security, server.host))
    opened: dict[str, Bundle] = {}
    for entry in bundles:
        look = partial(_check_bundle, entry, opened, engine.device, kinds)
        yield _checked(f"bundle {entry}", look)
    if engine.device_tokens_bytes:
        yield _checked("tokens on the device", lambda: check_device_tokens(engine, opened, kinds))
    if store is not None:
        yield _checked(
            f"store {without_password(store)}",
            lambda: _check_store(store, frozen, write_back, opened.values()),
        )
    for root in server.model_roots:
        yield _checked(f"model root {root}", partial(check_folder, "model root", root))
    for root in server.job_roots:
        yield _checked(f"job root {without_password(root)}", partial(JobRoots, [root]))
    if (tries := engine.trie_root) is not None:
        yield _checked(f"trie root {tries}", partial(check_folder, "trie_root", tries))
    if (jobs := server.jobs_file) is not None:
        yield _checked(f"jobs {jobs}", lambda: _check_jobs(Path(jobs)))
    if (state := server.state_file) is not None:
        yield _checked(f"state {state}", lambda: _check_state(Path(state)))


def _checked(what: str, check: Callable[[], object]) -> Check:
    try:
        check()
    except (RankportError, OSError) as error:
        return Check(what, reason_with_file(error))
    return Check(what)


def _check_places(server: ServerConfig) -> None:
    check_addresses(server)
    check_reachable(server)


def _check_extras(server: ServerConfig) -> None:
    """Raises `MissingExtra` for what is not installed and the settings ask for."""
    if server.http_port is not None:
        with extras_named("HTTP"):
            from rankport.runtime.server.http.front import HttpFront  # noqa: F401
    if server.observing.metrics_port is not None:
        with extras_named("/metrics"):
            from rankport.runtime.server.observing.metrics import ServerMetrics  # noqa: F401


def _check_bundle(entry: str, opened: dict[str, Bundle], device: Device, kinds: Sequence[Kind]) -> None:
    """Opens a bundle, as strictly as a load does, and adds it to those before."""
    for name, bundle in named_bundles([entry], kinds).items():
        if name in opened:
            raise InvalidRequest(
                f"{opened[name].path} is named {name!r} too: give one another name, NAME=DIRECTORY"
            )
        view_for(bundle, device)
        opened[name] = bundle


def _check_store(path: str, frozen: bool, write_back: bool, bundles: Iterable[Bundle]) -> None:
    """Opens a store, and looks whether it has the tokens of the encoders that rankers are paired with."""
    with open_store(path, read_only=not write_back, frozen=frozen) as store:
        for bundle in bundles:
            if bundle.manifest.pairing is not None:
                paired_tokens(store, bundle.manifest)


def _check_jobs(path: Path) -> None:
    _check_writable("jobs_file", path)
    check_jobs_file(path)


def _check_state(path: Path) -> None:
    _check_writable("state_file", path)
    check_lock(path)
    read_state(path)


def _check_writable(field: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise InvalidRequest(f"{field} {path}: its folder is not there: make it, or give a file in another")
    if not os.access(path.parent, os.W_OK):
        raise InvalidRequest(f"{field} {path}: its folder cannot be written: give a file in one that can be")
