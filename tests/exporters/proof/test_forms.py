"""Two forms of one bundle's graphs: a proof holds each figure of the one that is farther off in it."""

from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.proof.prove import Drift, Measured, farther
from rankport.runtime.bundle.manifest import BatchIndependence, ModeParity, Quality


def measured(largest: float, relative: float, tau: float, changed: int, ndcg: float) -> Measured:
    mode = ModeParity(
        mode="one_pass",
        items=40,
        requests=4,
        max_abs_error=largest,
        mean_abs_error=largest / 2,
        relative_error=relative,
        kendall_tau=tau,
        top_k_agreement=tau,
    )
    batches = BatchIndependence(
        requests=4, items=40, sizes=[1, 8], top=10, changed=changed, max_abs_difference=0.1
    )
    quality = Quality(
        requests=4,
        ndcg_at_1_source=0.9,
        ndcg_at_1_bundle=0.9,
        ndcg_at_10_source=0.9,
        ndcg_at_10_bundle=ndcg,
    )
    return Measured([mode], None, Tolerance(), quality, lambda _: Drift([], None), batches=batches)


def test_a_form_whose_largest_error_is_the_smaller_hides_no_other_figure() -> None:
    first = measured(largest=0.3, relative=1e-4, tau=1.0, changed=0, ndcg=0.9)
    second = measured(largest=0.2, relative=0.5, tau=0.4, changed=3, ndcg=0.5)
    for one, other in ((first, second), (second, first)):
        both = farther(one, other)
        (mode,) = both.modes
        assert (mode.max_abs_error, mode.relative_error, mode.kendall_tau) == (0.3, 0.5, 0.4)
        assert (mode.items, mode.requests) == (40, 4)
        assert both.batches == second.batches
        assert both.quality == second.quality
