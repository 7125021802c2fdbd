"""Which encoders attend by one kernel: none that cannot be asked, or whose layers ask for what the kernel lacks."""

import weakref
from pathlib import Path
from types import SimpleNamespace

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rankport.exporters.export import export
from rankport.exporters.graphs.attention_interface import attention_of
from rankport.exporters.kinds.texts.attention import fused_attention
from support import checkpoints


class Model(nn.Module):
    """One layer that calls the attention interface with `options`, or raises them."""

    _supports_attention_backend = True

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.config = SimpleNamespace(_attn_implementation="eager")
        self.options = options

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        if "error" in self.options:
            raise ValueError(self.options["error"])
        states = torch.zeros(*input_ids.shape, 2)[:, None]
        attend = ALL_ATTENTION_FUNCTIONS[attention_of(self)]
        attend(self, states, states, states, **{"attention_mask": None, **self.options})


@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({}, True),
        ({"attention_mask": torch.ones(1, 1, 3, 3, dtype=torch.bool)}, True),
        ({"attention_mask": torch.zeros(1, 1, 3, 3)}, False),
        ({"softcap": 30.0}, False),
        ({"s_aux": torch.zeros(1)}, False),
        ({"error": "it wants decoder_input_ids"}, False),
    ],
    ids=["plain", "bool mask", "float mask", "soft-capping", "sinks", "other inputs"],
)
def test_attention_is_fused_only_where_one_kernel_computes_it(
    options: dict[str, object], fused: bool
) -> None:
    model = Model(**options)
    with fused_attention(model):
        assert (attention_of(model) != "eager") == fused
    assert attention_of(model) == "eager"


class Unlisted(Model):
    """One that transformers does not say it of, whose layer tells its attention `more` that one kernel passes over."""

    _supports_attention_backend = False

    def __init__(self, more: float) -> None:
        super().__init__()
        self.more = more

    @property
    def base_model(self) -> nn.Module:
        return self

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:  # type: ignore[override]
        states = torch.stack([input_ids, input_ids**2], -1)[:, None] * 0.1
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention_of(self), own_attention)
        mixed, _ = attend(self, states, states, states, attention_mask=None, more=self.more)
        return SimpleNamespace(last_hidden_state=mixed.flatten(2))


def own_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, more: float
) -> tuple[Tensor, None]:
    before = torch.ones(key.shape[2], key.shape[2]).tril() == 1
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5 + more * key[..., :1].transpose(2, 3)
    return (torch.where(before, scores, -torch.inf).softmax(-1) @ value).transpose(1, 2), None


@pytest.mark.parametrize(("more", "fused"), [(0.0, True), (0.01, False)])
def test_a_model_that_transformers_does_not_list_is_fused_where_its_states_stay(
    more: float, fused: bool
) -> None:
    model = Unlisted(more)
    with fused_attention(model):
        assert (attention_of(model) != "eager") == fused


class Own(nn.Module):
    """A module of one's own, with a config or none."""

    def __init__(self, config: object = None) -> None:
        super().__init__()
        if config is not None:
            self.config = config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        states = torch.zeros(*input_ids.shape, 2)[:, None]
        attend = ALL_ATTENTION_FUNCTIONS[attention_of(self)]
        attend(self, states, states, states, attention_mask=None)


@pytest.mark.parametrize(
    "config",
    [None, {"hidden": 8}, SimpleNamespace(hidden=8), SimpleNamespace(_attn_implementation="eager")],
    ids=["none", "a dict", "its own", "of transformers, without base_model"],
)
def test_a_module_of_ones_own_attends_as_it_does(config: object) -> None:
    model = Own(config)
    with fused_attention(model):
        assert getattr(config, "_attn_implementation", "eager") == "eager"


def test_masks_of_one_trace_are_not_kept() -> None:
    """They may be of a module: its weights would stay in memory."""

    class Masks:
        def seen(self, *sizes: object, **more: object) -> None:
            return None

    masks = Masks()
    kept = weakref.ref(masks)
    with fused_attention(Model(), masks.seen):
        pass
    del masks
    assert kept() is None


def test_heads_that_share_keys_are_rows_of_one_where_a_model_reads_both_ways(tmp_path: Path) -> None:
    checkpoint = checkpoints.body(tmp_path / "c", "eurobert", num_hidden_layers=1)
    options = {"pooling": "mean", "max_item_tokens": 24, "target": "onnx-cuda"}
    bundle = export(checkpoint, tmp_path / "b", kind="item-encoder", **options)
    (spec,) = bundle.manifest.graphs
    nodes = [node for node in ir.load(bundle.file(spec.file)).graph if node.op_type == "MultiHeadAttention"]
    assert [node.attributes.get_int("num_heads", 0) for node in nodes] == [2]
    parity = bundle.manifest.parity
    assert parity is not None
    assert max(mode.max_abs_error for mode in parity.modes) <= 1e-4
