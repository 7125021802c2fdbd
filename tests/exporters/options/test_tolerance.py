from collections.abc import Callable

import pytest

from rankport.exporters.export import export
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.verify import verify
from rankport.protos.errors import InvalidRequest


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_tolerance_is_a_number_from_0_on(value: float) -> None:
    with pytest.raises(InvalidRequest, match="--max-abs-error"):
        Tolerance(max_abs_error=value)


@pytest.mark.parametrize("call", [export, verify])
def test_another_thing_in_its_place_is_told_before_anything_is_read(call: Callable[..., object]) -> None:
    given = {"kind": "ranker"} if call is export else {}
    with pytest.raises(InvalidRequest, match=r"tolerance is 1.0: give a .*Tolerance of max_abs_error, "):
        call("no checkpoint", "no bundle", tolerance=1.0, **given)
