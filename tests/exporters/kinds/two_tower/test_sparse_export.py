"""The export of sparse encoders: what is proven, in half precision and int8 too, and what `verify` repeats."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.table import kind_named
from rankport.exporters.verify import verify
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from support import sparse_folders as sparse
from support.effort import full_effort


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sparse")
    return sparse.native(sparse.masked_lm(place / "base"), place / "folder", similarity_fn_name="cosine")


def test_it_is_proven_and_verified(folder: Path, exported: Callable[..., Bundle]) -> None:
    assert claimed_kind(folder).kind is kind_named("two-tower")
    bundle = exported(folder, name="tiny-sparse-alike")
    assert [graph.role for graph in bundle.manifest.graphs] == ["represent", "score"]
    assert bundle.manifest.parity is not None
    modes = {mode.mode: mode.max_abs_error for mode in bundle.manifest.parity.modes}
    assert {"item_alone", "score", "end_to_end", "query_sentence_transformers"} < modes.keys()
    assert max(modes.values()) < 1e-5
    assert bundle.manifest.parity.reference is not None
    assert "; and sentence-transformers " in bundle.manifest.parity.reference
    assert verify(bundle.path, folder).failures == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_item_tokens": 41}, "--max-item-tokens 41: the towers read 40 tokens there"),
        ({"prompt": "bare"}, "--prompt bare: a folder of a sparse encoder says what stands before a query"),
    ],
)
def test_options_that_do_not_fit(
    folder: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        export(folder, tmp_path / "out", **options)


@full_effort
@pytest.mark.parametrize(
    "options",
    [{"target": "onnx-cuda,tensorrt", "precision": "fp16", "output_dtype": "float16"}, {"quantize": "int8"}],
)
@pytest.mark.parametrize("make", [sparse.legacy, sparse.routed])
def test_half_precision_and_low_bits_are_proven(
    make: Callable[..., Path], folder: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    made = make(folder.parent / "base", tmp_path / "folder")
    assert export(made, tmp_path / "out", **options).manifest.parity is not None
