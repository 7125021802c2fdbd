"""Aliases: names that stand for versions, whole or in shares, and what they stood for before."""

import math
import random
import time
from collections.abc import Sequence
from hashlib import blake2b

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.versions import AliasRecord, AliasTarget, ModelAlias
from rankport.protos.wording import repeated

_EARLIER_KEPT = 20


class Aliases:
    """Aliases by name. They know names of versions, and not whether there are any. One thread changes them."""

    def __init__(self, seed: int) -> None:
        """Draws for requests without an id come from a generator of this seed."""
        self._all: dict[str, ModelAlias] = {}
        self._random = random.Random(seed)

    def get(self, alias: str) -> ModelAlias | None:
        """Finds an alias."""
        return self._all.get(alias)

    def all(self) -> tuple[ModelAlias, ...]:
        """Lists the aliases by name."""
        return tuple(sorted(self._all.values(), key=lambda alias: alias.alias))

    def naming(self, model: str) -> list[str]:
        """Lists the aliases that stand for a version, among others or alone."""
        return [alias.alias for alias in self.all() if any(target.model == model for target in alias.targets)]

    def set(
        self, alias: str, targets: Sequence[AliasTarget], before: Sequence[AliasTarget] = ()
    ) -> ModelAlias:
        """Has an alias stand for targets; none removes it. `before`: what the name meant while it was no alias.

        Raises:
            InvalidRequest: the name is none, a target is named twice, or a weight is no positive number.
            NotFound: an alias that is to be removed is not there.
        """
        check_alias(alias)
        check_targets(targets)
        old = self._all.get(alias)
        if not targets:
            if old is None:
                raise NotFound(f"no alias is named {alias!r}; there are {', '.join(self._all) or 'none'}")
            del self._all[alias]
            return ModelAlias(alias, ())
        earlier = old.earlier if old else ()
        last = old.targets if old else tuple(before)
        if last:
            earlier = (AliasRecord(last, time.time()), *earlier)[:_EARLIER_KEPT]
        self._all[alias] = ModelAlias(alias, tuple(targets), earlier)
        return self._all[alias]

    def put(self, alias: str, as_it_was: ModelAlias | None) -> None:
        """Puts an alias back as it was, None if it was not there."""
        self._all.pop(alias, None)
        if as_it_was is not None:
            self._all[alias] = as_it_was

    def before_last(self, alias: str) -> AliasRecord:
        """Tells what an alias stood for before its last change. Raises `NotFound` if there is no such record."""
        there = self._all.get(alias)
        if there is None:
            raise NotFound(f"no alias is named {alias!r}; there are {', '.join(self._all) or 'none'}")
        if not there.earlier:
            raise NotFound(f"alias {alias!r} has not stood for anything else: set it instead")
        return there.earlier[0]

    def roll_back(self, alias: str) -> ModelAlias:
        """Sets an alias back by one change, which is forgotten. Raises as `before_last`."""
        record = self.before_last(alias)
        self._all[alias] = ModelAlias(alias, record.targets, self._all[alias].earlier[1:])
        return self._all[alias]

    def pick(self, alias: ModelAlias, request_id: str) -> str:
        """Names the version for a request: always the same for one id, drawn for an empty one."""
        if len(alias.targets) == 1:
            return alias.targets[0].model
        drawn = _place(alias.alias, request_id) if request_id else self._random.random()
        left = drawn * sum(target.weight for target in alias.targets)
        for target in alias.targets:
            left -= target.weight
            if left < 0:
                return target.model
        return alias.targets[-1].model  # by rounding


def _place(alias: str, request_id: str) -> float:
    """Places an id in [0, 1), evenly, and anew for every alias."""
    digest = blake2b(f"{alias}\0{request_id}".encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def check_alias(alias: str) -> None:
    """Raises `InvalidRequest` for what is no name of an alias."""
    if not alias or "@" in alias:
        raise InvalidRequest(f'alias is {alias!r}: give a name without "@", which is of versions')
    if not alias.isprintable():
        raise InvalidRequest(f"alias is {alias!r}: give characters of a line")


def check_targets(targets: Sequence[AliasTarget]) -> None:
    """Raises `InvalidRequest` for targets of which one is named twice, or has a weight that is none."""
    if twice := repeated(target.model for target in targets):
        raise InvalidRequest(f"targets name {twice[0]!r} twice: give its whole weight once")
    for target in targets:
        if not 0 < target.weight < math.inf:
            raise InvalidRequest(f"the weight of {target.model!r} is {target.weight}: it must be positive")
