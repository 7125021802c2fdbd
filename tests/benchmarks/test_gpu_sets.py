"""Rankers of sets in the GPU benchmark: the peer answers as the module does, and the arithmetic is what it computes."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.sets.case import CASES, PEER_CASES, TINY, SetCase, drawn, expected, flops, random_model
from benchmarks.gpu.sets.set_peers import SetPeer

OTHER = 2.0
"""Errors that states of another history make at least, in place of the history's own."""


@pytest.mark.parametrize("case", PEER_CASES, ids=lambda case: case.name)
def test_the_peer_gives_the_logits_of_the_module(case: SetCase) -> None:
    model, rng = random_model(case, TINY), np.random.default_rng(1)
    requests = [drawn(TINY, rng) for _ in range(3)]
    computed = [expected(model, request) for request in requests]
    kept = [torch.stack(layers) for layers in zip(*(state for state, _ in computed), strict=True)]
    ids = torch.from_numpy(np.stack([request.candidates for request in requests]))
    peer = SetPeer(model, requests[0].times, "cpu", torch.float32, "eager")
    with torch.inference_mode():
        actual = peer.rank(ids, kept).numpy()
        other = peer.rank(ids, [OTHER * layer for layer in kept]).numpy()
    theirs = np.stack([logits.numpy() for _, logits in computed])
    np.testing.assert_allclose(actual, theirs, atol=2e-5)
    assert np.abs(other - theirs).max() > 1e-3


@pytest.mark.parametrize("block", ["hstu", "ligr"])
def test_arithmetic_is_that_of_the_products_of_the_module(block: str) -> None:
    """Counts a set-wise mask as products alone; with the other one a candidate's look at itself is none."""
    case = next(case for case in PEER_CASES if case.block == block and case.policy == "set-wise")
    model, request = random_model(case, TINY), drawn(TINY, np.random.default_rng(0))
    state, _ = expected(model, request)
    sessions, times = torch.zeros(TINY.candidates, dtype=torch.int64), torch.from_numpy(request.times)
    rows = model.candidate_features({"item": torch.from_numpy(request.candidates)})
    with torch.inference_mode(), FlopCounterMode(display=False) as counted:
        model.rank(rows, torch.tensor([times[-1]]), state, times, sessions)
    assert counted.get_total_flops() == flops(case, TINY, cached=True)


def test_a_history_read_anew_needs_more_and_a_set_more_than_candidates_apart() -> None:
    by_policy = {case.policy: case for case in PEER_CASES if case.block == "hstu"}
    apart, together = by_policy["independent"], by_policy["set-wise"]
    assert flops(apart, TINY, cached=True) < flops(apart, TINY, cached=False)
    extra = TINY.blocks * 4 * TINY.hidden * TINY.candidates * (TINY.candidates - 1)
    assert flops(together, TINY, cached=True) - flops(apart, TINY, cached=True) == extra


def test_all_precisions_and_masks_are_measured() -> None:
    assert {case.held_in for case in CASES} == {"fp16", "bf16", "fp32"}
    assert {(case.block, case.policy) for case in PEER_CASES} == {
        (block, policy) for block in ("hstu", "ligr") for policy in ("independent", "set-wise")
    }
