"""Which bundles a server is told to serve."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.server.loading import ModelLoader, loaded_models
from rankport.runtime.store.opening import open_store


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
    assert "runs on the CPU: the bundle has nothing for cuda" in caplog.text
    with pytest.raises(InvalidRequest, match="graphs for onnx-cpu, not for CUDA"):
        ItemEncoder.load(encoder_bundle, config=config)


def test_tokens_cannot_stay_on_a_device_for_models_that_take_none(encoder_bundle: Bundle) -> None:
    config = EngineConfig(device="cuda", device_tokens_bytes=2**20)
    with (
        pytest.raises(
            InvalidRequest, match="none of tiny-encoder takes embedding tokens: leave --device-tokens"
        ),
        loaded_models([str(encoder_bundle.path)], None, config),
    ):
        pass


def test_a_root_of_models_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidRequest, match=r"^model root is '.*/none': give a folder that is there"),
        ModelLoader.opened(None, EngineConfig(), roots=[str(tmp_path / "none")]),
    ):
        pass


def test_a_ranker_of_sets_that_reads_no_tokens_is_served_beside_a_store(
    set_bundle: Callable[[str, str], Bundle], tmp_path: Path
) -> None:
    open_store(tmp_path / "store", create=True).close()
    bundles = [str(set_bundle("ligr", "top").path)]
    with loaded_models(bundles, tmp_path / "store", EngineConfig(threads=1)) as models:
        (ranker,) = models.values()
        assert ranker.capabilities == {"ranks_sets"}
