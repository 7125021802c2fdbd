"""`AliasChanges`: changes of what an alias stands for, refused where its requests would find something else."""

from collections.abc import Sequence
from dataclasses import replace

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.versions import AliasTarget, ModelAlias
from rankport.runtime.kinds.capabilities import Capability
from rankport.runtime.server.models.models import ServedModels

_REQUESTS: frozenset[Capability] = frozenset(
    {"scores", "weighs", "encodes", "encodes_sparse", "classifies", "tags", "generates", "ranks_sets"}
)


class AliasChanges:
    """Changes of the aliases of a server's models, made at once."""

    def __init__(self, models: ServedModels) -> None:
        self._models = models

    def set(self, alias: str, targets: Sequence[AliasTarget]) -> ModelAlias:
        """Has an alias stand for versions that are ready and do the same; none removes it.

        Raises:
            InvalidRequest: as `Aliases.set`; the targets do different things, or less than those before them.
            NotFound: a target is not there or not ready.
        """
        before = () if "@" in alias else self._models.targets(alias)
        self._check_does_one_thing(alias, targets)
        self._check_does_as_before(alias, targets, before)
        return self._models.aliases.set(alias, targets, before)

    def restore(self, alias: ModelAlias) -> ModelAlias:
        """Sets an alias as it was, as far as its versions are ready.

        Raises `NotFound` if none of them is, `InvalidRequest` as `set`.
        """
        ready = {version.model for version in self._models.versions.all_ready()}
        there = tuple(target for target in alias.targets if target.model in ready)
        if not there:
            raise NotFound(f"no version that alias {alias.alias!r} stands for is ready")
        self._check_does_one_thing(alias.alias, there)
        self._check_does_as_before(alias.alias, there, self._models.targets(alias.alias))
        restored = replace(alias, targets=there)
        self._models.aliases.put(alias.alias, restored)
        return restored

    def roll_back(self, alias: str) -> ModelAlias:
        """Sets an alias back. Raises `NotFound` if there is nothing to go back to, or it is not there any more."""
        for target in self._models.aliases.before_last(alias).targets:
            try:
                self._models.versions.ready(target.model)
            except NotFound as error:
                raise NotFound(f"alias {alias!r} stood for {target.model}: {error}; load it first") from None
        return self._models.aliases.roll_back(alias)

    def _check_does_one_thing(self, alias: str, targets: Sequence[AliasTarget]) -> None:
        can = {target.model: self._capabilities(target.model) for target in targets}
        if len(set(can.values())) > 1:
            does = ", ".join(f"{model} {' and '.join(sorted(words))}" for model, words in can.items())
            raise InvalidRequest(f"targets of {alias!r} do not answer the same requests: {does}")

    def _check_does_as_before(
        self, alias: str, targets: Sequence[AliasTarget], before: Sequence[AliasTarget]
    ) -> None:
        """Raises `InvalidRequest` where requests that an alias answers would find nothing any more."""
        if not targets or not before:
            return
        now = self._capabilities(targets[0].model)
        lost = sorted((self._capabilities(before[0].model) & _REQUESTS) - now)
        if lost:
            raise InvalidRequest(
                f"{targets[0].model} does not do what {alias!r} does: {before[0].model} {' and '.join(lost)}; "
                "remove the alias first, or take another"
            )

    def _capabilities(self, model: str) -> frozenset[Capability]:
        served = self._models.versions.ready(model).served
        assert served is not None, "ready versions have a model"
        return frozenset(served.model.capabilities)
