"""Kinds that have as many instances as are asked for, and those that have one."""

import threading
from collections.abc import Callable

import pytest

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.table import kind_of
from rankport.runtime.server.lifecycle.warming import warm

WAIT_S = 60.0


def in_instances(bundle: Bundle, instances: int) -> bool:
    """Says whether threads of instances compute what a model is first asked for."""
    before = {*threading.enumerate()}
    config = EngineConfig(threads=instances, instances=instances)
    model = kind_of(bundle).load(bundle, config, None)
    try:
        warm(model, WAIT_S)
        begun = {*threading.enumerate()} - before
        return any(thread.name.startswith("rankport-instance") for thread in begun)
    finally:
        model.close()


@pytest.mark.parametrize(
    "fixture", ["mix_bundle", "encoder_bundle", "wide_bundle", "list_bundle", "alone_bundle"]
)
def test_what_scores_or_encodes_computes_in_instances(fixture: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(fixture)
    assert [in_instances(bundle, instances) for instances in (1, 2)] == [False, True]


def test_what_ranks_sets_computes_in_instances(set_bundle: Callable[[str, str], Bundle]) -> None:
    bundle = set_bundle("hstu", "independent")
    assert [in_instances(bundle, instances) for instances in (1, 2)] == [False, True]


def test_what_writes_reads_prompts_in_instances(generator_bundle: Bundle) -> None:
    assert [in_instances(generator_bundle, instances) for instances in (1, 2)] == [False, True]


def test_an_encoder_decoder_has_one(seq2seq_bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    assert not in_instances(seq2seq_bundle, 2)
    told = (
        "computes one pass at a time, with all threads, not in 2 instances: all texts that an encoder-decoder"
    )
    assert f"bundle {seq2seq_bundle.manifest.name!r} {told}" in caplog.text
