"""Checks of a server's settings against what is there: addresses, certificates, clients, bundles, store, folders."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.protos.reasons import reason_with_file
from rankport.runtime.backends.choice import view_for
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, Device, EngineConfig
from rankport.runtime.kinds.kind import Kind
from rankport.runtime.kinds.table import KINDS
from rankport.runtime.options import check_folder
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.jobs.roots import JobRoots
from rankport.runtime.server.lifecycle.saved import read_state
from rankport.runtime.server.loading import named_bundles
from rankport.runtime.server.processes.supervisor import check_fronts
from rankport.runtime.server.security.certificates import Certificates
from rankport.runtime.server.security.exposure import check_exposure
from rankport.runtime.server.security.guard import Guard
from rankport.runtime.store.keyed_items import paired_tokens
from rankport.runtime.store.opening import open_store


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
    engine: EngineConfig = DEFAULTS,
    kinds: Sequence[Kind] = KINDS,
) -> Iterator[Check]:
    """Makes all checks, those after one that fails too."""
    security = server.security
    hosts = ", ".join(f"{option} {host}" for option, host in server.hosts.items())
    yield _checked(hosts, lambda: check_addresses(server))
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
    if store is not None:
        yield _checked(f"store {store}", lambda: _check_store(store, frozen, opened.values()))
    for root in server.model_roots:
        yield _checked(f"model root {root}", partial(check_folder, "model root", root))
    for root in server.job_roots:
        yield _checked(f"job root {root}", partial(JobRoots, [root]))
    if (tries := engine.trie_root) is not None:
        yield _checked(f"trie root {tries}", partial(check_folder, "trie_root", tries))
    if (jobs := server.jobs_file) is not None:
        yield _checked(f"jobs {jobs}", lambda: _check_writable("jobs_file", Path(jobs)))
    if (state := server.state_file) is not None:
        yield _checked(f"state {state}", lambda: _check_state(Path(state)))


def _checked(what: str, check: Callable[[], object]) -> Check:
    try:
        check()
    except (RankportError, OSError) as error:
        return Check(what, reason_with_file(error))
    return Check(what)


def check_addresses(server: ServerConfig) -> None:
    """Raises `InvalidRequest` for hosts that are too open, and two ports of the server's own that are one."""
    security, observing = server.security, server.observing
    check_exposure(server.hosts, security)
    ports = {
        "port": (None if server.host.startswith("unix:") else server.port, server.host),
        "http_port": (server.http_port, server.http_host),
        "admin_port": (security.admin_port, security.admin_host),
        "metrics_port": (observing.metrics_port, observing.metrics_host),
    }
    for (first, (port, host)), (second, other) in combinations(ports.items(), 2):
        if port and other[0] == port and (other[1] == host or {host, other[1]} & {"0.0.0.0", "::"}):
            raise InvalidRequest(f"{first} and {second} are both {port}: give another {second}")


def _check_bundle(entry: str, opened: dict[str, Bundle], device: Device, kinds: Sequence[Kind]) -> None:
    """Opens a bundle, as strictly as a load does, and adds it to those before."""
    for name, bundle in named_bundles([entry], kinds).items():
        if name in opened:
            raise InvalidRequest(
                f"{opened[name].path} is named {name!r} too: give one another name, NAME=DIRECTORY"
            )
        view_for(bundle, device)
        opened[name] = bundle


def _check_store(path: str, frozen: bool, bundles: Iterable[Bundle]) -> None:
    """Opens a store, and looks whether it has the tokens of the encoders that rankers are paired with."""
    with open_store(path, read_only=True, frozen=frozen) as store:
        for bundle in bundles:
            if bundle.manifest.pairing is not None:
                paired_tokens(store, bundle.manifest)


def _check_state(path: Path) -> None:
    _check_writable("state_file", path)
    read_state(path)


def _check_writable(field: str, path: Path) -> None:
    if not os.access(path.parent, os.W_OK):
        raise InvalidRequest(f"{field} {path}: its folder cannot be written: give a file in one that can be")
