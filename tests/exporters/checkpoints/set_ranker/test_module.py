"""The reference module of rankers of sets, against its formulas written out."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.set_ranker.attention import Past, Peers, RelativeBias
from rankport.exporters.checkpoints.set_ranker.inputs import hashed, look_up
from rankport.exporters.checkpoints.set_ranker.module import SetRankerModel
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.sections.sets import IdTable
from support.sets.rankers import set_checkpoint, set_config, set_model
from support.sets.requests import NOW, candidates, history, times


def tensors(columns: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def scored(model: SetRankerModel, events: int, places: Any, sessions: Any = None) -> Tensor:
    ranked = {name: column[places] for name, column in tensors(candidates(6)).items()}
    seen = None if sessions is None else torch.tensor(sessions)
    return model(tensors(history(events)), ranked, torch.from_numpy(times(events)), torch.tensor([NOW]), seen)


@pytest.mark.parametrize("block", ["ligr", "hstu"])
def test_candidates_in_another_order_have_their_scores_in_that_order(block: str) -> None:
    model = set_model(set_config(block, block))
    generator = torch.Generator().manual_seed(5)
    for _ in range(5):
        order = torch.randperm(6, generator=generator)
        there = scored(model, 7, slice(None), [0] * 6)
        torch.testing.assert_close(scored(model, 7, order, [0] * 6), there[order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("block", ["ligr", "hstu"])
def test_a_candidate_sees_those_of_its_session_and_no_other(block: str) -> None:
    model = set_model(set_config(block))
    apart = scored(model, 5, slice(None), [0, 0, 0, 1, 1, 2])
    for first, last in ((0, 3), (3, 5), (5, 6)):
        alone = scored(model, 5, slice(first, last), [0] * (last - first))
        torch.testing.assert_close(apart[first:last], alone, atol=1e-6, rtol=0)
    assert (apart[:5] - scored(model, 5, slice(None), None)[:5]).abs().min() > 1e-6
    torch.testing.assert_close(apart[5:], scored(model, 5, slice(None), None)[5:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("block", ["ligr", "hstu"])
def test_a_history_in_pieces_has_the_state_of_the_whole(block: str) -> None:
    model = set_model(set_config(block, block))
    events, when = model.event_features(tensors(history(9))), torch.from_numpy(times(9))
    whole = model.history(events, when, model.no_past(), when[:0])
    state, done = model.no_past(), 0
    for end in (1, 4, 9):
        piece = model.history(events[done:end], when[done:end], state, when[:done])
        state, done = [torch.cat(pair, dim=1) for pair in zip(state, piece, strict=True)], end
    for part, expected in zip(state, whole, strict=True):
        torch.testing.assert_close(part, expected, atol=1e-6, rtol=0)


def test_a_ligr_block_is_its_formula() -> None:
    model = set_model(set_config("ligr", positions=0, time_buckets=0, sets=_timeless()))
    block, rows = model.blocks[0], torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    normed = block.attention_norm(rows)
    query, key, value = (part.view(4, 2, 8) for part in block.qkv(normed).chunk(3, dim=1))
    attended = torch.empty(4, 2, 8)
    for row in range(4):
        for head in range(2):
            scores = torch.stack([query[row, head] @ key[seen, head] for seen in range(row + 1)]) / math.sqrt(
                8
            )
            attended[row, head] = torch.softmax(scores, 0) @ value[: row + 1, head]
    expected = rows + torch.sigmoid(block.attention_gate(rows)) * block.out(attended.view(4, 16))
    inner, up = block.ffn_in(block.ffn_norm(expected)).chunk(2, dim=1)
    swiglu = block.ffn_out(inner * torch.sigmoid(inner) * up)
    expected = expected + torch.sigmoid(block.ffn_gate(expected)) * swiglu
    torch.testing.assert_close(_causal(model, block, rows), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("length", "scaled"), [(None, False), (50, False), (50, True)])
def test_an_hstu_block_is_its_formula(length: int | None, scaled: bool) -> None:
    fields = {"attention_length": length, "attention_scaled": scaled, "sets": _timeless()}
    model = set_model(set_config("hstu", positions=0, time_buckets=0, **fields))
    block, rows = model.blocks[0], torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    mixed = block.uvqk(block.norm(rows))
    gate, value, query, key = (mixed * torch.sigmoid(mixed)).chunk(4, dim=1)
    attended = torch.empty(4, 16)
    for row in range(4):
        for head in (slice(0, 8), slice(8, 16)):
            scores = key[: row + 1, head] @ query[row, head] / (math.sqrt(8) if scaled else 1)
            weights = scores * torch.sigmoid(scores) / (length or row + 1)
            attended[row, head] = weights @ value[: row + 1, head]
    expected = rows + block.out(block.attended_norm(attended) * gate)
    torch.testing.assert_close(_causal(model, block, rows), expected, atol=1e-6, rtol=0)


def test_distances_have_the_bias_of_their_bucket() -> None:
    bias = RelativeBias(1, 3, 6)
    with torch.no_grad():
        bias.by_position.copy_(torch.tensor([[0.0], [1.0], [2.0]]))  # type: ignore[union-attr]
        bias.by_time.copy_(torch.tensor([[0.0], [10.0], [20.0], [30.0], [40.0], [50.0]]))  # type: ignore[union-attr]
    seconds = torch.tensor([[0, 1, 2, 3, 4, 7, 8, -8, 10**9]])
    distance = torch.tensor([[0, 1, 2, 3, 99, 0, 0, 0, 0]])
    assert bias(distance, seconds)[0, 0].tolist() == [0, 11, 22, 22, 32, 30, 40, 40, 50]


def test_ids_are_looked_up_as_the_table_says() -> None:
    table = torch.nn.Embedding.from_pretrained(torch.arange(8.0).view(4, 2))
    ids = torch.tensor([3, -1, 9])
    zero = look_up(table, IdTable(rows=4, width=2, unknown="zero"), ids)
    shared = look_up(table, IdTable(rows=4, width=2, unknown="shared", shared_row=1), ids)
    assert zero.tolist() == [[6, 7], [0, 0], [0, 0]]
    assert shared.tolist() == [[6, 7], [2, 3], [2, 3]]
    signed, unsigned = (IdTable(rows=3, width=2, lookup="modulo", ids=kind) for kind in ("int64", "uint64"))
    assert look_up(table, signed, ids)[:, 0].tolist() == [0, 4, 0]
    assert look_up(table, unsigned, ids - 1)[:, 0].tolist() == [4, 2 * ((2**64 - 2) % 3), 4]
    # The first outputs of the generator with seed 0, as its authors publish them.
    assert [hashed(0, 0), hashed(0x9E3779B97F4A7C15, 0)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_a_checkpoint_is_saved_and_loaded(tmp_path: Path) -> None:
    source = load_checkpoint(set_checkpoint(tmp_path / "sets"))
    assert (source.head, source.hidden_size, source.vocab_size) == ("sets", 16, 50)
    torch.testing.assert_close(scored(source.model, 3, [1]), scored(set_model(set_config()), 3, [1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 15}, "hidden_size 15 is no multiple of 2 heads"),
        ({"time_buckets": 0}, "time_buckets 0 and sets.times True contradict each other"),
        ({"head_weights": {}}, "head_weights: {} has no head that counts; null: 1 each"),
        ({"head_weights": {"click": 0.0}}, "head_weights: {'click': 0.0} has no head that counts"),
        ({"head_weights": {"share": 1.0}}, "head_weights: 'share' is no output of a tower"),
        ({"attention_length": 9}, "attention_length: is HSTU's"),
        ({"attention_scaled": True}, "attention_scaled: is HSTU's"),
        ({"colour": 1}, "colour: unknown key"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = set_checkpoint(tmp_path / "sets")
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def _timeless() -> dict[str, Any]:
    return {**set_config().sets.model_dump(exclude_defaults=True), "times": False}


def _causal(model: SetRankerModel, block: Any, rows: Tensor) -> Tensor:
    """Runs a block over rows as a history."""
    key, value = model.no_past()[:2]
    mask = torch.ones(len(rows), len(rows), dtype=torch.bool).tril()
    zero = torch.zeros(1, 1, 1)
    return block(rows, Past(key, value, torch.zeros(1, 1, 0)), Peers(mask, zero))[0]
