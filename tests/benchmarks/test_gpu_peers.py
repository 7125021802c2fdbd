"""The peers of the GPU benchmark answer as the reference does, so that their times are those of the same work."""

import numpy as np
import pytest
import torch

from benchmarks.gpu.peers import WAYS, Peer, batch_of, pass_rows
from benchmarks.gpu.workload.queries import LABEL_IDS, item_ids, random_query
from benchmarks.gpu.workload.shapes import FULL, TINY, RequestShape
from benchmarks.gpu.workload.torch_model import label_logits, random_model
from benchmarks.gpu.workload.weights import parameter
from rankport.runtime.tokens import TokenRun

SHAPE = TINY.workloads[0].model
QUERIES = 3


@pytest.fixture(scope="module")
def model() -> object:
    return random_model(SHAPE, "cpu", torch.float32)


def test_the_model_in_torch_has_the_weights_of_the_checkpoint(model: torch.nn.Module) -> None:
    for name, value in model.named_parameters():
        assert np.array_equal(value.detach().numpy(), parameter(name, tuple(value.shape)))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the older name of an argument, for older releases
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", [4, 12, 100])
@pytest.mark.parametrize("request_shape", TINY.workloads[0].requests, ids=lambda request: request.name)
def test_every_way_gives_the_logits_of_the_full_sequences(
    model: object, way: str, rows: int, request_shape: RequestShape
) -> None:
    batch = batch_of(model, SHAPE, request_shape, QUERIES, "cpu")
    with torch.inference_mode():
        actual = WAYS[way](Peer(model), batch, rows).numpy()
    expected = []
    for seed in range(QUERIES):
        query = random_query(SHAPE, request_shape, seed)
        rows_of = query.items.astype(np.float32) if request_shape.mixed else [None] * len(query.items)
        runs = [TokenRun(ids, row) for ids, row in zip(item_ids(SHAPE, query), rows_of, strict=True)]
        expected.append(label_logits(model, TokenRun(query.prefix), runs, LABEL_IDS))
    np.testing.assert_allclose(actual, np.concatenate(expected), atol=2e-5)


@pytest.mark.parametrize(
    ("place", "tokens", "rows"),
    [(0, 16_384, 250), (0, 65_536, 1000), (1, 16_384, 250), (2, 16_384, 17), (2, 65_536, 50)],
)
def test_passes_have_whole_queries_where_one_fits(place: int, tokens: int, rows: int) -> None:
    assert pass_rows(FULL.workloads[0].requests[place], tokens) == rows
