"""Marker tokens in what a request says: a text is cleaned of their names, ids of theirs are refused.

A state is read at each marker of a prompt. One that a request smuggled in would speak for an item that is none, and
shift all that follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.sections.lists import Lists, Marker


@dataclass(frozen=True, slots=True)
class Markers:
    """The markers of a bundle. Make it with `of`."""

    markers: tuple[Marker, ...]
    ids: NDArray[np.int64]  # [markers]

    @classmethod
    def of(cls, lists: Lists) -> "Markers":
        """Takes them from the manifest."""
        own = (lists.item_marker, lists.query_marker)
        markers = tuple(marker for marker in own if marker is not None)
        return cls(markers, np.array([marker.id for marker in markers], np.int64))

    def cleaned(self, text: str) -> str:
        """Leaves the names of markers out of a text, until none is left: none is made of what stood around one."""
        for marker in self.markers:
            text = text.replace(marker.token, "")
        return _reduced(text, self.names()) if any(name in text for name in self.names()) else text

    def refuse(self, ids: NDArray[np.int64], where: str) -> None:
        """Raises `InvalidRequest` for a marker among token ids [tokens]; `where` names them in the message."""
        found = np.flatnonzero(np.isin(ids, self.ids))
        if len(found):
            token = int(ids[found[0]])
            name = next(marker.token for marker in self.markers if marker.id == token)
            raise InvalidRequest(
                f"{where}: holds the marker token {token}, {name!r}, at position {found[0]}, where the model would "
                "read an item of its own: leave it out"
            )

    def names(self) -> Sequence[str]:
        """Lists the names of the markers."""
        return [marker.token for marker in self.markers]


def _reduced(text: str, names: Sequence[str]) -> str:
    """Leaves names out as they are completed, so that what one of them was hidden in is read but once."""
    ends = {name[-1] for name in names}
    kept: list[str] = []
    for character in text:
        kept.append(character)
        if character in ends:
            for name in names:
                if "".join(kept[-len(name) :]) == name:
                    del kept[-len(name) :]
                    break
    return "".join(kept)
