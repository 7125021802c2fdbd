"""A kind that no table lists is exported, proven, opened, loaded and served, with no file of the product touched."""

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankport.exporters.export import run_export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.table import EXPORT_KINDS, options_of
from rankport.exporters.options.proof_options import VerifyOptions
from rankport.exporters.verify import run_verify
from rankport.protos.errors import BundleError, InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest_rules import check_manifest
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.table import KINDS, open_bundle, rules_of
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from support import word_bag
from support.servers.loaded_models import loaded_models
from support.word_bag.row import WORD_BAG_EXPORT
from support.word_bag.runtime import WORD_BAG
from support.word_bag.work import expected_row

RUNTIME_KINDS = (*KINDS, WORD_BAG)
ALL_EXPORT_KINDS = (*EXPORT_KINDS, WORD_BAG_EXPORT)
TEXTS = ["senior data engineer", "nurse", [9, 17, 9]]


@pytest.fixture(scope="module")
def bundle(encoder_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("word-bag") / "bag"
    options = options_of(WORD_BAG_EXPORT, {"max_item_tokens": 32, "unit_length": True})
    return run_export(encoder_checkpoint, out, WORD_BAG_EXPORT, options, lambda step: None)


@pytest.fixture(scope="module")
def client(bundle: Bundle) -> Iterator[Client]:
    config = EngineConfig(threads=1)
    with (
        loaded_models([str(bundle.path)], None, config, RUNTIME_KINDS) as models,
        Server(models, ServerConfig(port=0)) as server,
        Client(server.address) as client,
    ):
        yield client


def table_of(checkpoint: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    from safetensors.numpy import load_file

    (table,) = (
        values
        for name, values in load_file(checkpoint / "model.safetensors").items()
        if name.endswith("word_embeddings.weight")
    )
    return table


def test_its_bundle_is_proven_and_opens_strictly(bundle: Bundle) -> None:
    manifest = open_bundle(bundle.path, RUNTIME_KINDS).manifest
    assert (manifest.kind, manifest.name, manifest.fingerprint) == (
        "word-bag",
        "bag",
        bundle.manifest.fingerprint,
    )
    assert manifest.parity is not None
    assert [mode.mode for mode in manifest.parity.modes] == ["one_item", "batch"]
    assert all(manifest.parity.holds(mode) for mode in manifest.parity.modes)


def test_without_its_row_it_is_refused_by_name(bundle: Bundle) -> None:
    with pytest.raises(InvalidRequest, match=r"is 'word-bag', where ranker or .* is looked for"):
        open_bundle(bundle.path)


def test_its_own_rules_hold(bundle: Bundle) -> None:
    twice = bundle.manifest.embedding.model_copy(update={"tokens": 2})  # type: ignore[union-attr]
    with pytest.raises(BundleError, match="kind word-bag makes one token"):
        check_manifest(bundle.manifest.model_copy(update={"embedding": twice}), rules_of(RUNTIME_KINDS))


def test_verify_proves_it_again(bundle: Bundle, encoder_checkpoint: Path) -> None:
    options = VerifyOptions()
    verdict = run_verify(bundle.path, encoder_checkpoint, options, lambda step: None, ALL_EXPORT_KINDS)
    assert verdict.failures == ()
    assert verdict.proof.parity == bundle.manifest.parity


def test_it_is_served_over_grpc(bundle: Bundle, client: Client, encoder_checkpoint: Path) -> None:
    rows = client.encode(TEXTS)
    by_ids = client.encode([[9, 17, 9]])
    assert rows.shape == (3, 1, bundle.manifest.shape.hidden_size)
    framed = np.array([1, 9, 17, 9, 2])
    expected = expected_row(table_of(encoder_checkpoint), framed, unit_length=True)
    np.testing.assert_allclose(rows[2, 0], expected, atol=1e-6)
    np.testing.assert_allclose(by_ids[0], rows[2], atol=1e-6)


def test_it_describes_itself_by_its_own_name(client: Client) -> None:
    described = client.describe()
    assert (described.kind, described.item_forms) == ("word-bag", ("text", "token_ids"))


def test_a_table_with_it_leaves_claims_as_they_were(encoder_checkpoint: Path) -> None:
    assert claimed_kind(encoder_checkpoint, kinds=ALL_EXPORT_KINDS).name == "item-encoder"


def test_its_options_are_its_own() -> None:
    with pytest.raises(InvalidRequest, match=r"--labels belongs to --kind ranker.*, not word-bag"):
        options_of(WORD_BAG_EXPORT, {"labels": ("yes",)})
    with pytest.raises(InvalidRequest, match="for onnx-cpu"):
        options_of(WORD_BAG_EXPORT, {"target": "onnx-cuda"})


def test_it_reads_no_private_name_of_the_product() -> None:
    for file in Path(word_bag.__path__[0]).glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = [
            name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rankport")
            for name in node.names
        ]
        assert [name for name in imported if name.startswith("_")] == []
