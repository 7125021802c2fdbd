"""Which bundles a server is told to serve."""

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.item_encoder import ItemEncoder
from rankport.runtime.server.loading import loaded_models


def test_an_entry_with_an_empty_name_is_refused() -> None:
    with (
        pytest.raises(InvalidRequest, match=r"'=some.bundle' gives no name: give NAME=DIRECTORY"),
        loaded_models(["=some.bundle"], None, DEFAULTS),
    ):
        pass


def test_an_item_encoder_beside_a_ranker_on_a_gpu_says_that_it_runs_on_the_cpu(
    encoder_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    config = EngineConfig(threads=1, device="cuda")
    with loaded_models([str(encoder_bundle.path)], None, config) as models:
        (encoder,) = models.values()
        assert isinstance(encoder, ItemEncoder)
        assert encoder.encode(["nurse"]).shape[0] == 1
    assert "runs on the CPU" in caplog.text
    with pytest.raises(InvalidRequest, match="item encoders run on the CPU"):
        ItemEncoder.load(encoder_bundle, config=config)
