"""Aliases: shares of requests, and what they stood for before."""

from collections import Counter

import pytest

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.versions import AliasTarget
from rankport.runtime.server.models.aliases import Aliases

STABLE, CANARY = "jobs@1", "jobs@2"
IDS = [f"request-{number}" for number in range(2000)]


def _canary(seed: int, share: float) -> tuple[Aliases, dict[str, str]]:
    aliases = Aliases(seed)
    alias = aliases.set("prod", [AliasTarget(STABLE, 1 - share), AliasTarget(CANARY, share)])
    return aliases, {request_id: aliases.pick(alias, request_id) for request_id in IDS}


def test_a_request_id_always_has_the_same_version_and_shares_are_those_of_the_weights() -> None:
    _, first = _canary(0, 0.1)
    _, second = _canary(7, 0.1)
    assert first == second
    assert Counter(first.values())[CANARY] == pytest.approx(200, abs=45)  # 3.4 sigma


def test_a_larger_share_keeps_all_that_had_the_canary() -> None:
    _, few = _canary(0, 0.1)
    _, many = _canary(0, 0.3)
    had = {request_id for request_id, model in few.items() if model == CANARY}
    have = {request_id for request_id, model in many.items() if model == CANARY}
    assert had < have


def test_requests_without_an_id_are_drawn_by_the_seed() -> None:
    def drawn(seed: int) -> list[str]:
        aliases = Aliases(seed)
        alias = aliases.set("prod", [AliasTarget(STABLE, 3), AliasTarget(CANARY, 1)])
        return [aliases.pick(alias, "") for _ in range(2000)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1).count(CANARY) == pytest.approx(500, abs=66)


def test_a_rollback_goes_back_one_change_and_again_one_further() -> None:
    aliases = Aliases(0)
    for model in ("jobs@1", "jobs@2", "jobs@3"):
        aliases.set("prod", [AliasTarget(model)])
    assert [record.targets[0].model for record in aliases.get("prod").earlier] == ["jobs@2", "jobs@1"]  # type: ignore[union-attr]
    assert aliases.roll_back("prod").targets == (AliasTarget("jobs@2"),)
    assert aliases.roll_back("prod").targets == (AliasTarget("jobs@1"),)
    with pytest.raises(NotFound, match="'prod' has not stood for anything else"):
        aliases.roll_back("prod")


@pytest.mark.parametrize(
    ("alias", "targets", "says"),
    [
        ("", [AliasTarget(STABLE)], "alias is ''"),
        ("a@b", [AliasTarget(STABLE)], "alias is 'a@b': give a name without"),
        ("prod", [AliasTarget(STABLE), AliasTarget(STABLE)], "name 'jobs@1' twice"),
        ("prod", [AliasTarget(STABLE, 0.0)], "weight of 'jobs@1' is 0.0: it must be positive"),
        ("prod", [AliasTarget(STABLE, float("nan"))], "is nan"),
        ("prod", [AliasTarget(STABLE, float("inf"))], "is inf"),
    ],
)
def test_a_wrong_alias_is_refused(alias: str, targets: list[AliasTarget], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        Aliases(0).set(alias, targets)


def test_an_alias_that_is_not_there_is_neither_removed_nor_set_back() -> None:
    aliases = Aliases(0)
    for change in (lambda: aliases.set("prod", []), lambda: aliases.roll_back("prod")):
        with pytest.raises(NotFound, match="no alias is named 'prod'; there are none"):
            change()
