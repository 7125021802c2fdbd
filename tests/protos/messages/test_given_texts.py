"""Texts and ids that no message holds are told by their field, before anything is sent."""

from collections.abc import Callable

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.protos.features import FeatureColumns
from rankport.protos.generation import Sampling
from rankport.protos.jobs import EncodeTask
from rankport.protos.messages import admin_wire, job_wire, search_wire, wire
from rankport.protos.versions import AliasTarget
from rankport.sdk import AsyncClient, Client

HALF = "a\udc80"
CALLS: dict[str, Callable[[], object]] = {
    "model": lambda: Client("jobs:1", model=HALF),
    "model ": lambda: AsyncClient("jobs:1", model=HALF),
    "path": lambda: Client("jobs:1").admin.load(HALF),
    "version": lambda: Client("jobs:1").admin.load("a", version=HALF),
    "alias": lambda: Client("jobs:1").admin.roll_back(HALF),
    "model of a share": lambda: admin_wire.target_messages([AliasTarget(HALF)]),
    "id": lambda: Client("jobs:1").jobs.get(HALF),
    "an id": lambda: wire.stream_request("", [(HALF, "a")], "error"),
    "items": lambda: job_wire.task_message(EncodeTask(items=HALF)),
    "text_columns": lambda: job_wire.task_message(EncodeTask(items="a", text_columns=("b", HALF))),
    "features: the name": lambda: FeatureColumns.of({HALF: [1.0]}),
    "stop": lambda: Sampling(stop=("a", HALF)),
    "regex": lambda: Sampling(regex=HALF),
    "json_schema": lambda: Sampling(json_schema={HALF: 1}),
    "trie": lambda: search_wire.search_request("", "a", HALF, 1, 1, "error"),
}


@pytest.mark.parametrize("field", CALLS)
def test_half_of_a_character_is_told_by_its_field(field: str) -> None:
    named = field.strip().removesuffix(" of a share")
    with pytest.raises(
        InvalidRequest, match=rf"^{named}.*: '\\udc80' at character \d is half of a character"
    ):
        CALLS[field]()


def test_a_value_that_its_field_does_not_hold_is_told() -> None:
    with pytest.raises(InvalidRequest, match=rf"^batch_size is {2**40}: "):
        job_wire.task_message(EncodeTask(items="a", batch_size=2**40))
    with pytest.raises(InvalidRequest, match=r"^path is 3: "):
        Client("jobs:1").admin.load(3)  # type: ignore[arg-type]
