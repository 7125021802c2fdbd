"""The models of a server by name. Does not own them: who loaded them closes them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.types import ModelDescription

if TYPE_CHECKING:  # the server drives models, it does not load them
    from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
    from rankport.runtime.kinds.ranker.ranker import Ranker

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Served(Generic[M]):
    """A model and its description under the name it is served by."""

    model: M
    description: ModelDescription


class ServedModels:
    """Finds the model that a request names, or the only one that fits."""

    def __init__(self, models: "Mapping[str, Ranker | ItemEncoder]") -> None:
        """Raises `InvalidRequest` if there is no model, or one without a name."""
        if not models or "" in models:
            raise InvalidRequest(f"models are named {sorted(models)}; give at least one, each with a name")
        self._all: dict[str, Served[Any]] = {
            name: Served(model, replace(model.describe(), name=name)) for name, model in models.items()
        }
        self._rankers: dict[str, Served[Ranker]] = self._of_kind("ranker")
        self._encoders: dict[str, Served[ItemEncoder]] = self._of_kind("item_encoder")

    def ranker(self, name: str) -> "Served[Ranker]":
        """The ranker of that name, or the only one if `name` is empty; else `NotFound`."""
        return _find(self._rankers, name, "ranker")

    def encoder(self, name: str) -> "Served[ItemEncoder]":
        """The item encoder of that name, or the only one if `name` is empty; else `NotFound`."""
        return _find(self._encoders, name, "item encoder")

    def description(self, name: str) -> ModelDescription:
        """Of the model of that name, or of the only one if `name` is empty; else `NotFound`."""
        return _find(self._all, name, "model").description

    def alive(self) -> dict[str, bool]:
        """Whether each model still answers, by name."""
        return {name: each.model.alive for name, each in self._all.items()}

    def descriptions(self) -> tuple[ModelDescription, ...]:
        """Of every model, by name."""
        return tuple(self._all[name].description for name in sorted(self._all))

    def _of_kind(self, kind: str) -> dict[str, Served[Any]]:
        return {name: each for name, each in self._all.items() if each.description.kind == kind}


def _find(candidates: Mapping[str, Served[M]], name: str, what: str) -> Served[M]:
    if name in candidates:
        return candidates[name]
    if not name and len(candidates) == 1:
        return next(iter(candidates.values()))
    have = f"this server has {', '.join(sorted(candidates)) or 'none'}"
    if name:
        raise NotFound(f"no {what} is named {name!r}; {have}")
    raise NotFound(f"the request names no {what}, and {have}; name one")
