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


@pytest.mark.parametrize("name", ["min_kendall_tau", "min_reference_tau", "min_reference_cosine"])
def test_what_nothing_can_be_above_is_at_most_1(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"--{name.replace('_', '-')} is 1.5: nothing is above 1"):
        Tolerance(**{name: 1.5})


@pytest.mark.parametrize(
    ("name", "file"),
    [("max_ndcg_loss", "judged"), ("max_reference_error", "reference"), ("min_reference_tau", "reference")],
)
@pytest.mark.parametrize("call", [export, verify])
def test_a_limit_of_a_file_that_is_not_given_is_refused(
    call: Callable[..., object], name: str, file: str
) -> None:
    given = {"kind": "ranker"} if call is export else {}
    with pytest.raises(InvalidRequest, match=f"--{name.replace('_', '-')} goes with --{file}"):
        call("no checkpoint", "no bundle", tolerance=Tolerance(**{name: 0.5}), **given)


@pytest.mark.parametrize("version", ["", " ", "1\n2", "1" * 129])
def test_a_version_is_characters_of_a_line(version: str) -> None:
    with pytest.raises(InvalidRequest, match=r"--version is .*: give 1 to 128 characters of a line"):
        export("no checkpoint", "no bundle", kind="ranker", version=version)


@pytest.mark.parametrize("call", [export, verify])
def test_another_thing_in_its_place_is_told_before_anything_is_read(call: Callable[..., object]) -> None:
    given = {"kind": "ranker"} if call is export else {}
    with pytest.raises(InvalidRequest, match=r"tolerance is 1.0: give a .*Tolerance of max_abs_error, "):
        call("no checkpoint", "no bundle", tolerance=1.0, **given)
