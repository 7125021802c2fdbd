"""The export of late interaction: what is proven, in half precision and int8 too, and what `verify` repeats."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rankport.exporters.export import export
from rankport.exporters.kinds.claims import claimed_kind
from rankport.exporters.kinds.table import kind_named
from rankport.exporters.verify import verify
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.bundle import Bundle
from support import late_folders as late
from support.effort import full_effort


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("late")
    return late.native(late.body(place / "base"), place / "folder")


def test_it_is_proven_and_verified(folder: Path, exported: Callable[..., Bundle]) -> None:
    assert claimed_kind(folder).kind is kind_named("two-tower")
    bundle = exported(folder, name="tiny-late")
    assert bundle.manifest.parity is not None
    modes = {mode.mode: mode.max_abs_error for mode in bundle.manifest.parity.modes}
    assert list(modes) == [
        "query_alone",
        "query_batch",
        "item_alone",
        "item_batch",
        "score",
        "order",
        "end_to_end",
    ]
    assert max(modes.values()) < 1e-5
    assert verify(bundle.path, folder).failures == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_item_tokens": 1},
            "--max-item-tokens 1: late interaction has a vector for each token of an item",
        ),
        ({"max_item_tokens": 15}, "--max-item-tokens 15: the towers read 14 tokens there"),
        ({"prompt": "bare"}, "--prompt bare: a folder of late interaction says what stands before a query"),
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
def test_half_precision_and_low_bits_are_proven(
    folder: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    bundle = export(folder, tmp_path / "out", max_item_tokens=12, **options)
    assert bundle.manifest.parity is not None
    assert bundle.manifest.embedding is not None
    assert bundle.manifest.embedding.tokens == 12
