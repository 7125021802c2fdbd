"""Query heads stand by group where the model then answers as before, and everything is put back."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from rankport.exporters.kinds.head_order import AttentionHeads, Modules, heads_by_group

HEADS, KV_HEADS, WIDTH = 6, 2, 4
STATES = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    """Attention of six heads over two, whose queries are scaled by a weight: of a head, or of all."""

    def __init__(self, scaled: int = WIDTH, outputs: int = HEADS * WIDTH) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.q_proj = nn.Linear(8, outputs)
        self.k_proj = nn.Linear(8, KV_HEADS * WIDTH)
        self.o_proj = nn.Linear(HEADS * WIDTH, 8)
        self.scale = torch.linspace(0.5, 2, scaled)

    def forward(self, states: Tensor, by_group: Modules) -> Tensor:
        queries = self.q_proj(states)[..., : HEADS * WIDTH].unflatten(-1, (-1, len(self.scale))) * self.scale
        keys = self.k_proj(states).unflatten(-1, (KV_HEADS, WIDTH))
        of_head = torch.arange(HEADS) % KV_HEADS if self in by_group else torch.arange(HEADS) // 3
        heads = queries.flatten(-2).unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)
        seen = keys[:, :, of_head].transpose(1, 2)
        mixed = torch.softmax(heads @ seen.transpose(2, 3), -1) @ seen
        result: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return result


class Model(nn.Module):
    def __init__(self, *layers: Layer, kv_heads: int = KV_HEADS) -> None:
        super().__init__()
        self.layers, self.kv_heads = nn.ModuleList(layers), kv_heads

    def run(self, by_group: Modules) -> tuple[Sequence[AttentionHeads], Sequence[Tensor]]:
        heads = [AttentionHeads(layer, HEADS, self.kv_heads, WIDTH) for layer in self.layers]
        return heads, [layer(STATES, by_group) for layer in self.layers]


def test_heads_are_moved_while_open_and_the_answers_stay() -> None:
    model = Model(Layer(), Layer())
    layers, (expected, _) = list(model.layers), model.run(frozenset())[1]
    before = [(layer.q_proj, layer.o_proj) for layer in layers]
    with heads_by_group(model, model.run) as moved:
        assert moved == frozenset(layers)
        order = [kv * 3 + group for group in range(3) for kv in range(KV_HEADS)]
        for layer, (queries, result) in zip(layers, before, strict=True):
            assert isinstance(queries, nn.Linear)
            assert isinstance(result, nn.Linear)
            assert torch.equal(
                layer.q_proj.weight.unflatten(0, (HEADS, WIDTH)),
                queries.weight.unflatten(0, (HEADS, WIDTH))[order],
            )
            assert torch.equal(
                layer.o_proj.weight.unflatten(1, (HEADS, WIDTH)),
                result.weight.unflatten(1, (HEADS, WIDTH))[:, order],
            )
        torch.testing.assert_close(model.run(moved)[1][0], expected)
    assert [(layer.q_proj, layer.o_proj) for layer in layers] == before


def test_heads_are_put_back_after_an_error() -> None:
    model = Model(Layer())
    before = model.layers[0].q_proj
    with pytest.raises(ValueError, match="of the trace"), heads_by_group(model, model.run):
        raise ValueError("of the trace")
    assert model.layers[0].q_proj is before


@pytest.mark.parametrize(
    "model",
    [
        Model(Layer(), Layer(scaled=HEADS * WIDTH)),
        Model(Layer(outputs=2 * HEADS * WIDTH)),
        Model(Layer(), kv_heads=HEADS),
    ],
    ids=["a weight of the whole width", "gates beside the queries", "keys of its own for each head"],
)
def test_a_model_that_would_answer_otherwise_or_needs_it_not_stays_as_it_is(model: Model) -> None:
    before = [(layer.q_proj, layer.o_proj) for layer in model.layers]
    with heads_by_group(model, model.run) as moved:
        assert moved == frozenset()
        assert [(layer.q_proj, layer.o_proj) for layer in model.layers] == before
