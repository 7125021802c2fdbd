import pytest

from rankport.exporters.options.tolerance import Tolerance
from rankport.protos.errors import InvalidRequest


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_tolerance_is_a_number_from_0_on(value: float) -> None:
    with pytest.raises(InvalidRequest, match="--max-abs-error"):
        Tolerance(max_abs_error=value)
