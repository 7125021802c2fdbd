"""The reference module against its definition in numpy, and texts against padding."""

from typing import Any

import numpy as np
import pytest
import torch

from rankport.exporters.checkpoints.two_tower.losses import ranking_loss
from rankport.exporters.checkpoints.two_tower.module import TowersModule, TwoTower
from rankport.exporters.quantization.quantize import quantize
from rankport.exporters.quantization.recipes import recipe_of
from support.reading.two_towers import BERT, CNN, LSTM, MLP, VOCAB, WIDE, two_tower

TOWERS = {
    "cnn": CNN | {"windows": [2, 3]},
    "cnn-valid": CNN | {"windows": [2, 3], "padding": "valid"},
    "lstm": LSTM,
    "lstm-forward": LSTM | {"bidirectional": False},
}


@pytest.mark.parametrize("tower", [*TOWERS, BERT])
def test_a_text_has_one_row_whatever_it_is_padded_to(tower: str) -> None:
    module = two_tower(towers={"shared": TOWERS.get(tower, BERT)})
    texts = [torch.randint(1, VOCAB, (length,)) for length in (1, 2, 7, 4)]
    ids, mask = torch.zeros(4, 9, dtype=torch.int64), torch.zeros(4, 9, dtype=torch.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    batch = module.represent(ids, mask, "item")
    alone = torch.cat([module.represent(text[None], torch.ones_like(text)[None], "item") for text in texts])
    assert batch.shape == (4, module.config.width)
    torch.testing.assert_close(batch, alone, rtol=0, atol=1e-6)
    assert (alone[0] - alone[1]).abs().max() > 1e-3


def test_a_convolution_is_the_largest_of_each_filter() -> None:
    module = two_tower()
    text = torch.tensor([5, 9, 3])
    cnn = module.towers["shared"]
    states = cnn.embedding.weight[text].numpy()  # type: ignore[operator, union-attr, index]
    weight = cnn.convolutions[0].weight.numpy()  # type: ignore[index, union-attr]
    bias = cnn.convolutions[0].bias.numpy()  # type: ignore[index, union-attr]
    around = np.concatenate([np.zeros((1, 8)), states, np.zeros((1, 8))])
    found = [np.einsum("fsw,ws->f", weight, around[start : start + 3]) + bias for start in range(3)]
    row = module.represent(text[None], torch.ones(1, 3, dtype=torch.int64), "query")[0]
    np.testing.assert_allclose(row.numpy(), np.maximum(np.max(found, axis=0), 0), atol=1e-6)


def test_windows_inside_of_a_text_are_detexts_masked_ones() -> None:
    """Text features as linkedin/detext computes them: rectified, windows past the text times 0, the largest."""
    module = two_tower(towers={"shared": CNN | {"windows": [2, 4], "padding": "valid"}})
    cnn: Any = module.towers["shared"]
    ids = torch.tensor([[5, 9, 3, 7, 2], [5, 9, 0, 0, 0], [8, 0, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    expected = []
    for window, convolution in zip((2, 4), cnn.convolutions, strict=True):
        found = convolution(cnn.embedding(ids).transpose(1, 2)).relu()
        inside = torch.arange(found.shape[2]) < (mask.sum(1, keepdim=True) - window + 1).clamp(min=0)
        expected.append((found * inside[:, None]).amax(dim=2))
    rows = module.represent(ids, mask, "item")
    torch.testing.assert_close(rows, torch.cat(expected, dim=1))
    assert torch.equal(rows[1, 12:], torch.zeros(12))
    assert torch.equal(rows[2], torch.zeros(24))
    assert (rows[0] > 0).any()


def test_a_bidirectional_lstm_reads_both_ways() -> None:
    own, torchs = two_tower(towers={"shared": LSTM | {"layers": 1}}), torch.nn.LSTM(8, 6, bidirectional=True)
    tower = own.towers["shared"]
    for name, parameter in tower.forwards[0].named_parameters():  # type: ignore[index, union-attr, operator]
        getattr(torchs, name).data = parameter.data
        getattr(torchs, f"{name}_reverse").data = tower.backwards[0].get_parameter(name).data  # type: ignore[index, union-attr, operator]
    text = torch.tensor([[5, 9, 3, 7]])
    _, (ends, _) = torchs(tower.embedding(text[0]))  # type: ignore[operator]
    torch.testing.assert_close(own.represent(text, torch.ones_like(text), "item")[0], ends.flatten())


def test_interactions_and_wide_features_are_as_stated() -> None:
    kinds = ["cosine", "dot", "hadamard", "concat", "difference"]
    module = two_tower(interactions=kinds, wide=WIDE, head=MLP | {"hidden": []})
    query, items = torch.randn(12), torch.randn(3, 12)
    features = torch.tensor([[float("nan"), 150.5, 1.0], [9.0, 1.0, 2.0], [4.0, 300.0, -3.0]])
    scaled = [[-1.6, 0.5, 1.0], [2.0, 0.0, 2.0], [0.0, 1.0, -3.0]]
    norms = np.linalg.norm(query) * np.linalg.norm(items, axis=1)
    dots = items.numpy() @ query.numpy()
    both = np.broadcast_to(query.numpy(), (3, 12))
    values = [(dots / norms)[:, None], dots[:, None], both * items.numpy(), both, items.numpy()]
    values += [both - items.numpy(), np.array(scaled)]
    linear = module.head[0]  # type: ignore[index]
    expected = np.concatenate(values, axis=1) @ linear.weight.numpy().T + linear.bias.numpy()  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(module.score(query, items, features).numpy(), expected, atol=1e-5)


def test_the_module_has_the_two_methods_of_the_protocol() -> None:
    assert isinstance(two_tower(), TowersModule)
    assert not isinstance(torch.nn.Linear(1, 1), TowersModule)


def test_forward_is_represent_and_score() -> None:
    module: TwoTower = two_tower(towers={"query": CNN, "item": LSTM})
    query, items = torch.tensor([[4, 8]]), torch.tensor([[1, 2, 3], [9, 8, 7]])
    ones = [torch.ones_like(ids) for ids in (query, items)]
    scores = module(query, ones[0], items, ones[1])
    expected = torch.cosine_similarity(
        module.represent(query, ones[0], "query"), module.represent(items, ones[1], "item")
    )
    torch.testing.assert_close(scores, expected[:, None])


def test_losses_by_hand() -> None:
    logits, gains = torch.tensor([0.0, 1.0]), torch.tensor([3.0, 1.0])
    log_shares = np.log(np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum())
    assert float(ranking_loss("listwise", logits, gains)) == pytest.approx(
        -(0.75 * log_shares[0] + 0.25 * log_shares[1])
    )
    assert float(ranking_loss("listwise", logits, torch.zeros(2))) == 0.0
    expected = (np.log(2) + np.log(1 + np.exp(1.0))) / 2
    assert float(ranking_loss("pointwise", logits, torch.tensor([2.0, 0.0]))) == pytest.approx(expected)


@pytest.mark.parametrize("tower", [*TOWERS, BERT])
def test_towers_read_a_table_in_low_bits(tower: str) -> None:
    """What `--quantize` puts in the place of the table and of linear layers."""
    fields: dict[str, Any] = {"towers": {"shared": TOWERS.get(tower, BERT)}, "head": MLP}
    module, low = two_tower(**fields), two_tower(**fields)
    facts = quantize(low, recipe_of("int8", "onnx-cpu"), None)
    assert [scheme.part for scheme in facts.schemes][-1] == "embedding"
    ids = torch.randint(1, VOCAB, (2, 5))
    rows = [each.represent(ids, torch.ones_like(ids), "item") for each in (module, low)]
    assert 0 < (rows[0] - rows[1]).abs().max() < 0.1 * rows[0].abs().max()
