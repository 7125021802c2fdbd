"""The untrained ranker scores by the cosine of its query's mean word and the item's token."""

from typing import Any

import numpy as np
import pytest
import torch

from examples.esco.cosine_start import Gains, Shape, build_model, constant_direction, embedding_rows
from examples.esco.packing import logit_gaps, pack
from examples.esco.stages import hidden_states, quick_gaps
from examples.esco.vocabulary import PromptIds, build_tokenizer

HIDDEN, ITEMS = 96, 200
SHAPE = Shape(layers=3, heads=3, intermediate_size=64)
WORDS = ["baker", "cook", "fish", "of", "plant", "the"]


@pytest.fixture(scope="module")
def items() -> torch.Tensor:
    tokens = torch.randn(ITEMS, HIDDEN, generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = 0
    return torch.nn.functional.normalize(tokens, dim=-1)


def test_the_constant_is_the_direction_that_no_item_has(items):
    constant = constant_direction(items.numpy())
    np.testing.assert_allclose(np.abs(constant), np.eye(HIDDEN)[0], atol=1e-5)
    with pytest.raises(ValueError, match=r"item tokens have a mean square of .* in every direction"):
        constant_direction(items.numpy()[:, 1:])


def test_embedding_rows_have_unit_length_and_keep_weights_in_their_content():
    vectors = np.random.default_rng(0).normal(size=(50, HIDDEN))
    weights = np.linspace(0.1, 1, 50)
    constant = np.eye(HIDDEN)[0]
    rows = embedding_rows(vectors, weights, constant)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    content = (vectors - vectors.mean(0))[:, 1:] * weights[:, None]
    lengths = np.linalg.norm(content, axis=1)
    np.testing.assert_allclose(rows[:, 1:], content / (1.05 * lengths.max()), atol=1e-2)


def test_before_any_training_items_are_ordered_by_their_cosine_to_the_query(items):
    torch.manual_seed(0)
    tokenizer, constant = build_tokenizer(WORDS), torch.eye(HIDDEN)[0]
    vectors = np.random.default_rng(1).normal(size=(len(tokenizer), HIDDEN))
    rows = embedding_rows(vectors, np.ones(len(tokenizer)), constant.numpy())
    model = build_model(SHAPE, tokenizer, torch.from_numpy(rows), constant, Gains(rest=0)).eval()
    ids = PromptIds.of(tokenizer)
    prefixes = [ids.prefix(tokenizer, query) for query in ("baker of fish", "the plant cook")]
    with torch.no_grad():
        gaps = logit_gaps(model, pack(prefixes, items.expand(2, -1, -1), ids.pad), ids.labels)
        quick = _quick(model, prefixes, items, constant, ids)
    table = model.get_input_embeddings().weight.detach()
    means = torch.stack([table[prefix].mean(0) * (1 - constant) for prefix in prefixes])
    cosines = torch.nn.functional.normalize(means, dim=-1) @ items.T
    for row, quick_row, cosine in zip(gaps, quick, cosines, strict=True):
        assert np.corrcoef(row, cosine)[0, 1] > 0.98
        assert np.corrcoef(quick_row, cosine)[0, 1] > 0.99


def test_the_quick_score_is_the_models_where_the_last_layer_attends_evenly(items):
    torch.manual_seed(0)
    tokenizer, constant = build_tokenizer(WORDS), torch.eye(HIDDEN)[0]
    rows = embedding_rows(
        np.random.default_rng(1).normal(size=(len(tokenizer), HIDDEN)),
        np.ones(len(tokenizer)),
        constant.numpy(),
    )
    model = build_model(SHAPE, tokenizer, torch.from_numpy(rows), constant, Gains(rest=0, evenness=0)).eval()
    ids = PromptIds.of(tokenizer)
    prefixes = [ids.prefix(tokenizer, query) for query in ("baker of fish", "cook")]
    with torch.no_grad():
        gaps = logit_gaps(model, pack(prefixes, items.expand(2, -1, -1), ids.pad), ids.labels)
        quick = _quick(model, prefixes, items, constant, ids)
    torch.testing.assert_close(quick, gaps, atol=1e-3, rtol=1e-4)


def _quick(
    model: Any, prefixes: list[list[int]], items: torch.Tensor, constant: torch.Tensor, ids: PromptIds
) -> torch.Tensor:
    batch = pack(prefixes, items[:2, None], ids.pad)
    states = hidden_states(model, batch)
    torch.testing.assert_close(states[:, -1], items[:2])  # an item reaches the last layer as it is
    prefix = states[:, :-1] * (batch.ids != ids.pad)[..., None]
    return quick_gaps(model, prefix, items, constant, ids.labels)
