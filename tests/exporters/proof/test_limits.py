"""The limits of rounded activations: the source's own noise, a cap, and whatever the user set."""

import pytest

from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.proof.limits import summarize
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
        None,
        0.999,
    )
