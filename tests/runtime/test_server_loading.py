"""Which bundles a server is told to serve."""

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.config import DEFAULTS
from rankport.runtime.server.loading import loaded_models


def test_an_entry_with_an_empty_name_is_refused() -> None:
    with (
        pytest.raises(InvalidRequest, match=r"'=some.bundle' gives no name: give NAME=DIRECTORY"),
        loaded_models(["=some.bundle"], None, DEFAULTS),
    ):
        pass
