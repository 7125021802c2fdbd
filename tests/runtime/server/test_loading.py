"""Which bundles a server is told to serve."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest, PairingError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import DEFAULTS, EngineConfig
from rankport.runtime.jobs.config import EncodeJobConfig
from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.two_tower.towers import Towers
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.loading import ModelLoader
from rankport.runtime.server.settings.checks import checks
from rankport.runtime.store.opening import open_store
from support.servers.loaded_models import loaded_models
from support.sets.rankers import set_config, set_model

ONE = EngineConfig(threads=1)


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


def test_towers_whose_representations_a_store_lacks_are_served_without_keys(
    wide_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_store(tmp_path / "store", create=True).close()
    with loaded_models([str(wide_bundle.path)], tmp_path / "store", ONE) as models:
        (towers,) = models.values()
        assert "looks_up" not in towers.capabilities
        assert "key" not in towers.describe().item_forms
    assert "bundle 'tiny-towers' is served without keys: store" in caplog.text
    with open_store(tmp_path / "store") as store, Towers.load(wide_bundle, config=ONE) as encoding:
        rows = [ItemRow(0, "a", "nurse")]
        run_encode_job(encoding, namespace_of(store, encoding), rows, EncodeJobConfig())
    with loaded_models([str(wide_bundle.path)], tmp_path / "store", ONE) as models:
        (towers,) = models.values()
        assert "looks_up" in towers.capabilities


def test_a_ranker_whose_encoder_a_store_lacks_is_a_fault_of_pairing(
    list_bundle: Bundle, mix_bundle: Bundle, tmp_path: Path
) -> None:
    open_store(tmp_path / "store", create=True).close()
    for bundle in (list_bundle, mix_bundle):
        name = f"ranker '{bundle.manifest.name}' is paired with encoder"
        with (
            pytest.raises(PairingError, match=name),
            loaded_models([str(bundle.path)], tmp_path / "store", ONE),
        ):
            pass


def test_a_ranker_of_sets_whose_encoder_a_store_lacks_is_a_fault_of_pairing(
    exported: Callable[..., Bundle], tmp_path: Path
) -> None:
    open_store(tmp_path / "store", create=True).close()
    set_model(set_config("ligr", encoder_fingerprint="e" * 64)).save(tmp_path / "checkpoint")
    bundle = exported(tmp_path / "checkpoint", name="paired-sets", kind="set-ranker")
    (told,) = [
        check.error
        for check in checks([str(bundle.path)], str(tmp_path / "store"), ServerConfig())
        if check.what.startswith("store")
    ]
    assert f"ranker 'paired-sets' is paired with encoder {'e' * 64}" in told
    with (
        pytest.raises(PairingError, match="ranker 'paired-sets' is paired with encoder"),
        loaded_models([str(bundle.path)], tmp_path / "store", ONE),
    ):
        pass
