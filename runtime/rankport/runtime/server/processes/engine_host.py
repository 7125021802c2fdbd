"""`EngineHost`: engines of one device, for the models of all fronts. Owns which are loaded, and who uses them."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.hosted_engine import HostedEngine, load_hosted
from rankport.runtime.kinds.remote.messages import EngineOrder
from rankport.runtime.links.link import Link
from rankport.runtime.server.observing.readiness import HOPELESS_LOOKS
from rankport.runtime.server.processes.engine_session import EngineSession

_log = logging.getLogger(__name__)
_BACKLOG = 256
_TOLD_EVERY_S = 0.2
_PAUSE_S = 0.5  # while the system has no room for one more
# An engine outlives a front that died, which comes back, but not one that let it go.
_KEPT_S = 60.0


@dataclass(slots=True)
class _Entry:
    """Engine that is loaded, or being loaded by who holds the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    engine: HostedEngine | None = None
    users: int = 0


class EngineHost:
    """Listens at a socket; each connection is one model's. It answers until `close`."""

    def __init__(
        self,
        path: str,
        config: EngineConfig,
        on_death: Callable[[], None],
        load: Callable[[EngineOrder, EngineConfig], HostedEngine] = load_hosted,
        hopeless_pass_s: float = 0.0,
    ) -> None:
        """`on_death` is called once an engine has stopped by itself: its device is lost, or it met a bug.

        Also once it is in one pass for `hopeless_pass_s`, unless that is 0.
        """
        self._hopeless_pass_s, self._hopeless_looks = hopeless_pass_s, 0
        self._config, self._on_death, self._load = config, on_death, load
        self._entries: dict[EngineOrder, _Entry] = {}
        self._sessions: set[EngineSession] = set()
        self._lock = threading.Lock()  # guards the two above
        self._closed = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX)
        with suppress(FileNotFoundError):
            os.unlink(path)
        self._socket.bind(path)
        self._socket.listen(_BACKLOG)
        for work, name in ((self._accept, "accept"), (self._tell, "tell")):
            threading.Thread(target=work, name=f"rankport-engines-{name}", daemon=True).start()

    def close(self) -> None:
        """Answers nothing more, and frees the device."""
        self._closed.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # by which who waits for a connection ends
        self._socket.close()
        with self._lock:
            sessions, entries = list(self._sessions), list(self._entries.values())
            self._entries.clear()
        for session in sessions:
            session.end()
        for entry in entries:
            if entry.engine is not None:
                entry.engine.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                sock, _ = self._socket.accept()
            except OSError as error:  # of files, or it is closed
                self._pause(error)
                continue
            serving = threading.Thread(
                target=self._serve, args=(sock,), name="rankport-engine-link", daemon=True
            )
            try:
                serving.start()
            except (RuntimeError, MemoryError) as error:  # of threads
                sock.close()
                self._pause(error)

    def _pause(self, error: Exception) -> None:
        """Waits until the system may have room for one more."""
        if not self._closed.wait(_PAUSE_S):
            _log.error("a front's connection cannot be taken now, and is tried again: %s", error)

    def _serve(self, sock: socket.socket) -> None:
        """Answers one model of a front until it goes."""
        try:
            link = Link.accept(sock)
        except OSError as error:
            if not isinstance(error, ConnectionError):  # who connected is there, and no memory for it is
                _log.error("a front's connection cannot be taken, and is cut off: %s", error)
            sock.close()
            return
        session = EngineSession(link, self._borrow)
        with self._lock:
            self._sessions.add(session)
        try:
            session.run()
        except Exception:
            _log.exception("a front sent what is no message, and is cut off")
        finally:
            with self._lock:
                self._sessions.discard(session)
            if session.order is not None:
                self._give_back(session.order, at_once=session.released)
            session.close()  # by which who let the engine go knows that it is freed

    def _borrow(self, order: EngineOrder) -> HostedEngine:
        """Gives an engine, loaded unless it is; `_give_back` follows. Raises as its load."""
        with self._lock:
            entry = self._entries.setdefault(order, _Entry())
            entry.users += 1
        try:
            with entry.lock:
                if entry.engine is None:
                    entry.engine = self._load(order, self._config)
                return entry.engine
        except BaseException:
            self._give_back(order, at_once=True)
            raise

    def _give_back(self, order: EngineOrder, *, at_once: bool) -> None:
        with self._lock:
            entry = self._entries.get(order)
            if entry is not None:
                entry.users -= 1
        if at_once:
            self._drop_unused(order)
        else:
            timer = threading.Timer(_KEPT_S, self._drop_unused, (order,))
            timer.daemon = True
            timer.start()

    def _drop_unused(self, order: EngineOrder) -> None:
        with self._lock:
            entry = self._entries.get(order)
            if entry is None or entry.users:
                return
            del self._entries[order]
        if entry.engine is not None:
            entry.engine.close()

    def _tell(self) -> None:
        """Tells all fronts how their engines are, again and again."""
        while not self._closed.wait(_TOLD_EVERY_S):
            try:
                goes_on = self._look()
            except Exception:  # want of memory, say; nobody would ever see again that an engine has died
                _log.exception("the engines could not be looked at")
                continue
            if not goes_on:
                if not self._closed.is_set():
                    self._on_death()
                return

    def _look(self) -> bool:
        """Tells all fronts once; False where an engine has died, or is in a pass that does not end."""
        with self._lock:
            sessions = list(self._sessions)
            engines = [entry.engine for entry in self._entries.values() if entry.engine is not None]
        for session in sessions:
            session.tell()
        self._hopeless_looks = self._hopeless_looks + 1 if any(map(self._is_hopeless, engines)) else 0
        if self._hopeless_looks >= HOPELESS_LOOKS:
            _log.error("an engine is in a pass that does not end: this process ends, and another begins anew")
            return False
        return not self._any_died()

    def _any_died(self) -> bool:
        """Says whether an engine stopped by itself: one that was let go is no longer among them."""
        with self._lock:
            entries = self._entries.values()
            return any(entry.engine is not None and not entry.engine.engine.alive for entry in entries)

    def _is_hopeless(self, hosted: HostedEngine) -> bool:
        return 0 < self._hopeless_pass_s <= hosted.engine.counts().silent_s
