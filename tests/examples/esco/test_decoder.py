"""The decoder in which items meet the query in the last layer alone."""

import numpy as np
import pytest
import torch

from examples.esco.bag import Bag
from examples.esco.decoder import LateDecoder, Shape, constant_direction
from examples.esco.evaluate import CheckpointRanker
from examples.esco.train_ranker import TrainedRanker
from examples.esco.vocabulary import build_tokenizer

HIDDEN, ITEMS = 96, 200
SHAPE = Shape(layers=3, heads=3, intermediate_size=64)
WORDS = ["baker", "cook", "fish", "of", "plant", "the"]
QUERIES = ["baker of fish", "the plant cook", "cook"]


@pytest.fixture(scope="module")
def items() -> torch.Tensor:
    tokens = torch.randn(ITEMS, HIDDEN, generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = 0  # and no other: more items than dimensions
    return torch.nn.functional.normalize(tokens, dim=-1)


@pytest.fixture
def bag() -> Bag:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(len(build_tokenizer(WORDS)), HIDDEN, generator=generator) / HIDDEN**0.5
    return Bag(rows, torch.randn(HIDDEN, generator=generator) / HIDDEN**0.5)


@pytest.fixture
def decoder(bag) -> LateDecoder:
    torch.manual_seed(0)
    built = LateDecoder.build(SHAPE, build_tokenizer(WORDS), bag, torch.eye(HIDDEN)[0])
    built.model.eval()
    return built


@pytest.fixture
def trained(decoder) -> LateDecoder:
    """Every weight moved as a training might."""
    with torch.no_grad():
        for parameter in decoder.model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    decoder.constrain()
    return decoder


def test_the_constant_is_the_direction_that_no_item_has(items):
    constant = constant_direction(items.numpy())
    np.testing.assert_allclose(np.abs(constant), np.eye(HIDDEN)[0], atol=1e-5)
    with pytest.raises(ValueError, match=r"item tokens have a mean square of .* in every direction"):
        constant_direction(items.numpy()[:, 1:])


def test_before_any_training_a_querys_vector_is_that_of_the_bag(decoder, bag):
    with torch.no_grad():
        vectors = decoder.query_vectors(decoder.prefixes(QUERIES))
    ids = [run[1:] for run in decoder.prefixes(QUERIES)]
    wanted = torch.stack([bag.rows[run].mean(0) + bag.mean for run in ids]).index_fill(
        1, torch.tensor([0]), 0
    )
    assert torch.nn.functional.cosine_similarity(vectors, wanted).min() > 0.97


def test_after_any_training_an_item_reaches_the_last_layer_as_it_is(trained, items):
    prefix = trained.model.get_input_embeddings()(torch.tensor(trained.prefixes(QUERIES[:1])))
    sequence = torch.cat([prefix.expand(ITEMS, -1, -1), items[:, None]], 1)
    with torch.no_grad():
        states = trained.model(inputs_embeds=sequence, output_hidden_states=True).hidden_states
    assert len(states) == SHAPE.layers + 1
    for state in states[:-1]:
        torch.testing.assert_close(state[:, -1], items, atol=1e-5, rtol=0)


def test_after_any_training_a_checkpoint_orders_items_by_their_distance_to_the_query(
    trained, items, tmp_path
):
    TrainedRanker(trained.model, trained.tokenizer).save(tmp_path)
    ranker = CheckpointRanker.load(tmp_path)
    with torch.no_grad():
        trained.model.float()
        vectors = trained.query_vectors(trained.prefixes(QUERIES))
    assert len({len(run) for run in trained.prefixes(QUERIES)}) > 1  # padding is exercised
    for query, vector in zip(QUERIES, vectors, strict=True):
        logits = ranker.logits(query, items.numpy())
        gaps, distances = logits[:, 0] - logits[:, 1], (items - vector).norm(dim=1).numpy()
        ranks = [np.argsort(np.argsort(values)) for values in (-gaps, distances)]
        assert np.corrcoef(*ranks)[0, 1] > 0.99
        assert gaps.std() > 0.01


def test_the_start_token_says_nothing_to_a_query(trained):
    one, *others = trained.query_vectors(trained.prefixes(["cook", "the cook"]))
    assert one.norm() > 0.1
    assert (one - others[0]).norm() > 0.01
