"""Families of encoders that once did not trace, as item encoders: proven, or refused with the part at fault."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rankport.exporters.export import export
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.bundle import Bundle
from support import checkpoints
from support.effort import full_effort


@full_effort
def test_xlnet_reads_a_text_as_by_transformers(tmp_path: Path, exported: Callable[..., Bundle]) -> None:
    folder = checkpoints.body(tmp_path / "c", "xlnet", d_model=32, n_head=4, d_head=8, d_inner=48, n_layer=2)
    parity = exported(folder, kind="item-encoder", pooling="mean", output_dtype="float32").manifest.parity
    assert parity is not None
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4


@full_effort
def test_states_without_a_norm_are_proven_at_their_scale(
    tmp_path: Path, exported: Callable[..., Bundle]
) -> None:
    folder = checkpoints.body(tmp_path / "c", "mobilebert", initializer_range=0.15)
    parity = exported(folder, kind="item-encoder", pooling="mean", output_dtype="float32").manifest.parity
    assert parity is not None
    assert (parity.max_abs_tolerance or 0.0) > 1e-2
    assert max(mode.relative_error or 0.0 for mode in parity.modes) <= 1e-5


@full_effort
@pytest.mark.parametrize(
    ("model_type", "named"),
    [("longformer", "LongformerSelfAttention of LongformerModel"), ("mamba", "MambaModel")],
)
def test_what_does_not_trace_is_named(model_type: str, named: str, tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", model_type)
    with pytest.raises(CheckpointError, match=f"^{named} cannot be traced with dynamic sizes, .*own library"):
        export(folder, tmp_path / "b", kind="item-encoder", pooling="mean")
