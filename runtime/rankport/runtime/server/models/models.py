"""Models of a server by name: versions, and the aliases that requests find them by. Does not own them.

A name finds what an alias of it says, else the version of that name which was loaded first of those that are ready;
NAME@VERSION finds that version and no other. A request without a name means its call's `x-model`, if there is one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.priorities import Priority
from rankport.protos.types import ModelDescription
from rankport.protos.versions import MODEL_KEY, AliasTarget, ModelVersions
from rankport.protos.wording import listed
from rankport.runtime.kinds.capabilities import (
    Capability,
    ClassifyingModel,
    EncodingModel,
    GeneratingModel,
    Model,
    ModelCounts,
    ScoringModel,
    SetRankingModel,
    SparseEncodingModel,
    StoringModel,
    TaggingModel,
)
from rankport.runtime.server.models.aliases import Aliases
from rankport.runtime.server.models.versions import Served, Version, Versions, able, check_room
from rankport.runtime.server.observing.call import current_call, said_model
from rankport.runtime.store.hot_tokens import HotTokens

__all__ = ["Served", "ServedModels", "tokens_of"]


class ServedModels:
    """Finds the model that a request names, or the only one that fits.

    What it finds is in use, and stays open, while it is entered as a context: `with models.scorer(name) as served`.
    """

    def __init__(self, models: Mapping[str, Model], seed: int = 0) -> None:
        """Takes models that are ready. `seed` is that of the draws between an alias's targets.

        Raises `InvalidRequest` if there is no model, or one without a name.
        """
        if not models or "" in models:
            raise InvalidRequest(f"models are named {sorted(models)}; give at least one, each with a name")
        self.versions = Versions(models)
        self.aliases = Aliases(seed)

    def scorer(self, name: str, request_id: str = "") -> Served[ScoringModel]:
        """Finds the model of that name if it scores, or the only one that does if `name` is empty; else `NotFound`."""
        return self._that("scores", name, request_id)

    def classifier(self, name: str, request_id: str = "") -> Served[ClassifyingModel]:
        """Finds the model of that name if it classifies, or the only one that does if `name` is empty."""
        return self._that("classifies", name, request_id)

    def encoder(self, name: str, request_id: str = "") -> Served[EncodingModel]:
        """Finds the model of that name if it encodes, or the only one that does if `name` is empty; else `NotFound`."""
        return self._that("encodes", name, request_id)

    def sparse_encoder(self, name: str, request_id: str = "") -> Served[SparseEncodingModel]:
        """Finds the model of that name if it makes weights of a vocabulary, or the only one that does."""
        return self._that("encodes_sparse", name, request_id)

    def tagger(self, name: str, request_id: str = "") -> Served[TaggingModel]:
        """Finds the model of that name if it tags, or the only one that does if `name` is empty; else `NotFound`."""
        return self._that("tags", name, request_id)

    def generator(self, name: str, request_id: str = "") -> Served[GeneratingModel]:
        """Finds the model of that name if it generates, or the only one that does if `name` is empty."""
        return self._that("generates", name, request_id)

    def set_ranker(self, name: str, request_id: str = "") -> Served[SetRankingModel]:
        """Finds the model of that name if it ranks sets, or the only one that does if `name` is empty."""
        return self._that("ranks_sets", name, request_id)

    def looking_up(self, name: str) -> Served[StoringModel]:
        """Finds the model of that name if it reads a token store, or the only one that does if `name` is empty."""
        return self._that("looks_up", name, "")

    def encoder_of(self, fingerprint: str) -> Served[EncodingModel] | None:
        """Finds an encoder that is ready by the fingerprint of its bundle."""
        for version in self.versions.all_ready():
            if able(version, "encodes") and _served(version).description.fingerprint == fingerprint:
                return _served(version)
        return None

    def any(self, name: str, request_id: str = "") -> Served[Model]:
        """Finds the model of that name, or the only one if `name` is empty; else `NotFound`."""
        name = name or said_model() or self._only_name("model")
        version = self._pick(name, request_id)
        if version is None:
            raise self._unknown(name)
        return self._found(version, name)

    def version(self, name: str, version: str) -> Served[Model] | None:
        """Finds a version that is ready by the two parts of its name."""
        ready = [found for found in self.versions.of_name(name) if found.version == version]
        return self._found(ready[0], f"{name}@{version}") if ready else None

    def description(self, name: str) -> ModelDescription:
        """Describes the model of that name, of several the one with the most weight; or the only one."""
        name = name or said_model() or self._only_name("model")
        targets = self.targets(name)
        if not targets:
            raise self._unknown(name)
        heaviest = max(targets, key=lambda target: target.weight)
        return _served(self.versions.ready(heaviest.model)).description

    def check_said(self, model: str, name: str) -> None:
        """Raises `InvalidRequest` where the call's `x-model` stands for others than the version found by `name`."""
        said = said_model()
        if said not in ("", name) and model not in {target.model for target in self.targets(said)}:
            told = f"{MODEL_KEY} is {said!r:.80}, and the request names {name!r}"
            raise InvalidRequest(f"{told}: name one of them")

    def check_room(
        self, capability: Capability | None, name: str, timeout_s: float | None, priority: Priority
    ) -> None:
        """Raises as `versions.check_room` of what a name stands for, "" any, and has a capability, None any."""
        ready, named = self.versions.all_ready(), {target.model for target in self.targets(name)}
        able_ones = [each for each in ready if capability is None or able(each, capability)]
        check_room([each for each in able_ones if not name or each.model in named], timeout_s, priority)

    def alive(self) -> dict[str, bool]:
        """Says of each name whether all that it stands for still answers."""
        return {name: all(map(self._answers, self.targets(name))) for name in self._names()}

    def counts(self) -> dict[str, ModelCounts]:
        """Gives the counters of each version that is ready, by the name that means it alone. Any thread may ask."""
        ready = [(version.model, version.served) for version in self.versions.all_ready()]
        return {model: served.model.counts() for model, served in ready if served is not None}

    def stands_for(self) -> dict[str, tuple[str, ...]]:
        """Gives the versions that each name stands for."""
        return {name: tuple(target.model for target in self.targets(name)) for name in self._names()}

    def descriptions(self) -> tuple[ModelDescription, ...]:
        """Describes every version that is ready, by name. Any thread may ask."""
        ready = sorted(self.versions.all_ready(), key=lambda version: version.name)
        return tuple(served.description for version in ready if (served := version.served) is not None)

    def told(self) -> ModelVersions:
        """Lists versions and aliases."""
        return ModelVersions(self.versions.told(), self.aliases.all())

    def targets(self, name: str) -> Sequence[AliasTarget]:
        """Tells what a name stands for; nothing if it is unknown."""
        if "@" in name:
            return [AliasTarget(name)]
        alias = self.aliases.get(name)
        if alias is not None:
            return alias.targets
        return [AliasTarget(version.model) for version in self.versions.of_name(name)[:1]]

    def _that(self, capability: Capability, name: str, request_id: str) -> Served[Any]:
        what = f"model that {capability.replace('_', ' ')}"
        name = name or said_model() or self._only_name(what, capability)
        version = self._pick(name, request_id)
        if version is None or not able(version, capability):
            other = "" if version is None or version.served is None else _does_other(version.served)
            raise NotFound(f"no {what} is named {name!r}{other}; {self._have(self._doing(capability))}")
        return self._found(version, name, capability)

    def _found(self, version: Version, name: str, does: str = "") -> Served[Any]:
        """Returns the model found for a call, which is seen to be of this model from now on."""
        self.check_said(version.model, name)
        if (call := current_call()) is not None:
            call.model, call.asked, call.does = version.model, name, does
        return _served(version)

    def _pick(self, name: str, request_id: str) -> Version | None:
        alias = self.aliases.get(name)
        if alias is not None:
            return self.versions.ready(self.aliases.pick(alias, request_id))
        if "@" in name:
            return self.versions.ready(name)
        return next(iter(self.versions.of_name(name)), None)

    def _names(self) -> list[str]:
        """Lists the names that requests may use, but for those of versions."""
        own = {version.name for version in self.versions.all_ready()}
        return sorted(own | {alias.alias for alias in self.aliases.all()})

    def _only_name(self, what: str, capability: Capability | None = None) -> str:
        """Gives the name that a request without one means; an alias of a model that has a name itself is no other."""
        own = {
            version.name
            for version in self.versions.all_ready()
            if capability is None or able(version, capability)
        }
        if len(own) != 1:
            names = self._names() if capability is None else self._doing(capability)
            way_out = "; name one" if names else ""
            raise NotFound(f"the request names no {what}, and {self._have(names)}{way_out}")
        return own.pop()

    def _unknown(self, name: str) -> NotFound:
        return NotFound(f"no model is named {name!r}; {self._have(self._names())}")

    def _have(self, names: Sequence[str]) -> str:
        return f"this server has {', '.join(names) or 'none'}"

    def _doing(self, capability: Capability) -> list[str]:
        return [name for name in self._names() if self._does(name, capability)]

    def _does(self, name: str, capability: Capability) -> bool:
        return all(able(self.versions.ready(target.model), capability) for target in self.targets(name))

    def _answers(self, target: AliasTarget) -> bool:
        return bool(_served(self.versions.ready(target.model)).model.alive)


def _does_other(served: Served[Any]) -> str:
    does = [capability.replace("_", " ") for capability in sorted(served.model.capabilities)]
    return f", which {listed(does)}"


def tokens_of(served: Served[Any]) -> HotTokens | None:
    """Gives the stored tokens that a model reads, if it does."""
    if "looks_up" not in served.model.capabilities:
        return None
    return cast(StoringModel, served.model).tokens


def _served(version: Version) -> Served[Any]:
    assert version.served is not None, "ready versions have a model"
    return version.served
