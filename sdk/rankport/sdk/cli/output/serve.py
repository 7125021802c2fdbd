"""Lines that a server writes: on stdout what it serves and its address, on stderr its log; as text or as JSON."""

import json
from dataclasses import asdict
from typing import Any

from rankport.protos.types import ModelDescription
from rankport.runtime.server.processes.supervisor import Supervisor
from rankport.runtime.server.server import Server
from rankport.sdk.cli.output.writing import harmless, writing


class ServerLines:
    """Lines on stdout of one server."""

    def __init__(self, server: Server | Supervisor, json_log: bool) -> None:
        self._server, self._json_log = server, json_log

    def models(self) -> None:
        """Writes a line for each model."""
        for model in self._server.models:
            self._write(_line(model), event="model", **asdict(model))

    def ready(self) -> None:
        """Writes the address, and that of HTTP where there is one."""
        http = self._server.http_address
        ready = f"ready on {self._server.address}"
        facts = {"http_address": http} if http else {}
        scheme = "https" if self._server.encrypts else "http"
        if self._server.admin_address != self._server.address:
            facts["admin_address"] = self._server.admin_address
            ready += f", for admin calls on {self._server.admin_address}"
        self._write(
            f"{ready} and {scheme}://{http}" if http else ready,
            event="ready",
            address=self._server.address,
            **facts,
        )

    def stopping(self) -> None:
        """Writes that new calls are refused."""
        self._write("stopping", event="stopping")

    def stopped(self) -> None:
        """Writes how many calls ended how."""
        counts = self._server.counts.snapshot()
        summary = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
        self._write(f"stopped: {summary}", event="stopped", calls=counts)

    def _write(self, message: str, **facts: Any) -> None:
        with writing("standard output"):
            print(json.dumps(facts) if self._json_log else harmless(message), flush=True)


def _line(model: ModelDescription) -> str:
    takes = _taken(model)
    tokens = f", {model.embedding_tokens} token(s) an item" if model.embedding_tokens else ""
    if model.embedding_form:
        tokens = f", weights of {model.hidden_size} tokens an item"
    scores = f", a score is a {model.score_kind}: {model.read_out}" if model.score_kind else ""
    if model.read_out and not model.score_kind:
        scores = f", a label's probability is the {model.read_out}"
    return (
        f"{model.kind} {model.name} {model.version}: {model.architecture} {model.precision}, {takes}{tokens}{scores}, "
        f"fingerprint {model.fingerprint[:12]}"
    )


def _taken(model: ModelDescription) -> str:
    if model.item_forms:
        return f"items as {', '.join(model.item_forms)}"
    if model.features:
        return f"candidates of {', '.join(model.features)}"
    return f"prompts of {', '.join(model.prompt_fields) or 'text'}"
