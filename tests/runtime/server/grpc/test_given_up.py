"""A call whose client leaves in the moment of a write: given up, as one that is cancelled, and no error of the server.

gRPC then has the write raise before it cancels the call; which of the two comes first no test can decide.
"""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import grpc
import pytest

from rankport.runtime.server.counts import Outcome
from rankport.runtime.server.grpc.calls import open_call


@pytest.mark.parametrize("left_s", [None, 59.0, -1.0])
def test_a_write_to_a_client_that_has_left_is_a_call_given_up(left_s: float | None) -> None:
    admission = Mock(["opened", "closed", "answered", "given_up", "failed"])
    context = Mock(["time_remaining", "add_done_callback"])
    context.time_remaining.side_effect = [None if left_s is None else 60.0, left_s]

    async def call() -> None:
        core: Any = SimpleNamespace(admission=admission)
        async with open_call(context, core):
            raise grpc.aio.InternalError("execute_batch")

    with pytest.raises(grpc.aio.InternalError):
        asyncio.run(call())
    why = Outcome.DEADLINE if left_s == -1.0 else Outcome.CANCELLED
    admission.given_up.assert_called_once_with(why)
    admission.failed.assert_not_called()
