"""The limits of rounded activations: the source's own noise, a cap, and whatever the user set."""

import pytest

from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.proof.limits import require_use, rounds_results, summarize
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import ModeParity, Parity, Quantization, QuantizedPart

ROUNDED = Quantization(
    by="export",
    method="round to nearest",
    format="int8",
    parts=[
        QuantizedPart(
            part="linear",
            layers=1,
            weights=8,
            bits=8,
            type="int",
            symmetric=True,
            activations="int8 per token",
        )
    ],
    kept=[],
)


def noise(relative: float, tau: float, items: int = 20_000, requests: int = 10) -> ModeParity:
    return ModeParity(
        mode="noise",
        items=items,
        requests=requests,
        max_abs_error=relative,
        mean_abs_error=relative,
        kendall_tau=tau,
        top_k_agreement=1.0,
        relative_error=relative,
    )


def limits(tolerance: Tolerance, source: ModeParity | None) -> tuple[float | None, float]:
    parity: Parity = summarize("cpu", tolerance, [], ROUNDED, source)
    return parity.max_relative_tolerance, parity.min_kendall_tau


def test_twice_the_noise_is_allowed_where_it_is_more_up_to_a_cap() -> None:
    assert limits(Tolerance(), noise(1e-4, 1.0)) == (1e-2, pytest.approx(0.98, abs=1e-4))
    assert limits(Tolerance(), noise(2e-2, 0.97)) == (4e-2, pytest.approx(0.95, abs=1e-3))
    assert limits(Tolerance(), noise(0.9, 0.1)) == (0.1, 0.9)


def test_few_pairs_of_items_say_little_of_their_order() -> None:
    # 6 of 252 pairs swapped by the source in bf16, 12 by a bundle whose errors are smaller.
    assert limits(Tolerance(), noise(2e-3, 0.951, items=84, requests=12))[1] == 0.9
    # 105,000 pairs: chance swaps 2,573 of them, give or take 212.
    assert limits(Tolerance(), noise(2e-3, 0.951, items=2100, requests=21))[1] == pytest.approx(
        0.927, abs=1e-3
    )
    assert limits(Tolerance(), noise(1e-4, 1.0, items=84, requests=12))[1] == pytest.approx(0.947, abs=1e-3)


def test_what_the_user_set_holds() -> None:
    strict = Tolerance(max_relative_error=1e-3, min_kendall_tau=1.0)
    assert limits(strict, noise(0.5, 0.5)) == (1e-3, 1.0)


def test_a_model_without_rounding_keeps_the_exact_limits() -> None:
    parity = summarize("cpu", Tolerance(), [], None)
    assert (parity.max_abs_tolerance, parity.max_relative_tolerance, parity.min_kendall_tau) == (
        1e-4,
        1e-2,
        0.999,
    )


@pytest.mark.parametrize(
    ("tolerance", "error", "relative", "holds"),
    [
        (Tolerance(), 9e-5, 1e-5, True),
        (Tolerance(), 9e-5, 1.0, False),  # values of 1e-4, twice as large
        (Tolerance(), 5e-7, 1.0, True),  # values next to 0
        (Tolerance(), 9e-5, None, True),  # of an older bundle
        (Tolerance(), float("nan"), 1e-5, False),
        (Tolerance(), 9e-5, float("nan"), False),
        (Tolerance(max_abs_error=1e-3), 9e-4, 0.5, True),  # asked for by itself
        (Tolerance(max_relative_error=1e-4), 9e-5, 1e-3, False),
        (Tolerance(max_relative_error=0.5), 9e-5, 0.4, True),
    ],
)
def test_a_small_error_of_small_values_is_one(
    tolerance: Tolerance, error: float, relative: float | None, holds: bool
) -> None:
    parity = summarize("cpu", tolerance, [], None)
    mode = noise(0.0, 1.0).model_copy(update={"max_abs_error": error, "relative_error": relative})
    assert parity.holds(mode) == holds


def test_an_absolute_limit_that_no_graph_is_held_to_is_refused() -> None:
    asked = Tolerance(max_abs_error=1e-3)
    require_use(asked, [True, False])
    require_use(Tolerance(), [True])
    with pytest.raises(InvalidRequest, match=r"--max-abs-error is 0\.001.*--max-relative-error"):
        require_use(asked, [rounds_results("fp16", None), rounds_results("fp32", ROUNDED)])
