"""Health over HTTP, and what the front was told of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rankport.runtime.server.http.answers import Answer


@dataclass(slots=True)
class Health:
    """State of the server, as a whole and by model. Written by the front, on the event loop."""

    alive: Mapping[str, bool] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)  # why not, "" for all models
    stopping: bool = False  # or about to

    @property
    def ready(self) -> bool:
        """Says whether requests of every model are answered."""
        return not self.stopping and bool(self.alive) and all(self.alive.values())

    def answer(self) -> Answer:
        """Answers a readiness probe: 200, or 503 with the models that do not answer."""
        if self.ready:
            return Answer.of_json({"status": "ready"})
        dead = sorted(name for name, alive in self.alive.items() if not alive)
        status = "stopping" if self.stopping else "not ready"
        return Answer.of_json({"status": status, "not_answering": dead, "reasons": dict(self.reasons)}, 503)
