"""Answers on their way to a client, within the time that it may take to read them."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from starlette.types import Send

JSON = "application/json"
_PART_BYTES = 2**20


class UnreadError(Exception):
    """Answer that its client does not read: what ends its connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and headers of a response."""

    content: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON

    @classmethod
    def of_json(cls, body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> "Answer":
        """Writes a body as JSON, of which numbers that are not finite are no part."""
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return cls(text.encode(), status, headers or {})

    def with_header(self, name: str, value: str) -> "Answer":
        """Adds a header."""
        return replace(self, headers={**self.headers, name: value})

    async def send(self, send: Send, idle_s: float) -> None:
        """Sends it. Raises `UnreadError` if the client reads nothing for so long."""
        said = {"content-type": self.media_type, "content-length": str(len(self.content)), **self.headers}
        headers = [(name.encode(), value.encode("latin-1")) for name, value in said.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for start in range(0, len(self.content) or 1, _PART_BYTES):
            part = self.content[start : start + _PART_BYTES]
            more = start + _PART_BYTES < len(self.content)
            message = {"type": "http.response.body", "body": part, "more_body": more}
            try:
                await asyncio.wait_for(send(message), idle_s)
            except TimeoutError:
                raise UnreadError from None
