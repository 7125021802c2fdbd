"""Collapse diagnostics: each figure equals its formula, and none needs all pairs or a copy of the table."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rankport.exporters.vocabulary.audit import audit_tokens
from rankport.exporters.vocabulary.codebook import read_codebook
from rankport.exporters.vocabulary.collapse_limits import CollapseLimits
from rankport.exporters.vocabulary.diagnostics.cosines import nearest, row_sums, within
from rankport.exporters.vocabulary.diagnostics.diagnose import Sampling, diagnose
from rankport.exporters.vocabulary.diagnostics.similarity import correlate
from rankport.exporters.vocabulary.diagnostics.spectrum import spectrum
from rankport.exporters.vocabulary.new_rows import NewRows, resolve_new_rows
from rankport.exporters.vocabulary.verdict import failures
from rankport.protos.errors import CheckpointError, InvalidRequest
from support import checkpoints


def rows_of(first: int, count: int, total: int | None = None) -> NewRows:
    return NewRows(first, count, total or first + count, (None,) * count)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("rows", "width"), [(50, 16), (9, 16)])
def test_the_gram_matrix_gives_the_singular_values_of_the_rows(rows: int, width: int) -> None:
    table = normal(rows, width)
    found = spectrum(table)
    torch.testing.assert_close(
        torch.from_numpy(found.singular_values), torch.linalg.svdvals(table.double()), rtol=1e-6, atol=1e-6
    )


def test_effective_rank_counts_directions_that_weigh_the_same() -> None:
    assert spectrum(torch.eye(7, 12)).effective_rank == pytest.approx(7)
    assert spectrum(normal(1, 12).repeat(30, 1)).effective_rank == pytest.approx(1, abs=1e-3)
    halves = spectrum(torch.diag(torch.tensor([3.0, 1.0])))
    p = np.array([0.75, 0.25])
    assert halves.effective_rank == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert halves.condition == pytest.approx(3)
    assert spectrum(torch.zeros(4, 3)).effective_rank == 0


def test_the_mean_cosine_is_that_of_all_pairs() -> None:
    table = normal(40, 8) + 0.5
    unit = torch.nn.functional.normalize(table, dim=1)
    cosines = (unit @ unit.T).numpy()[np.triu_indices(40, 1)]
    found = within(row_sums(table), table)
    assert found.mean == pytest.approx(cosines.mean(), abs=1e-6)
    assert found.p50 == pytest.approx(np.median(cosines), abs=1e-6)


def test_neighbours_are_those_of_all_blocks() -> None:
    old, new = normal(50, 8), normal(3, 8, seed=1)
    found = nearest(new, [50, 51, 52], old, 4, block_values=64)  # eight rows a block
    unit = torch.nn.functional.normalize
    best = (unit(new, dim=1) @ unit(old, dim=1).T).topk(4, 1).indices
    assert [near.old_rows for near in found] == [tuple(row.tolist()) for row in best]


def test_correlations_are_numpys_and_ties_share_their_mean_rank() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 6, 200).astype(np.float32)
    b = (a + rng.normal(0, 2, 200)).astype(np.float32)
    found = correlate(a, b)
    ranks = [
        [float(np.mean(np.flatnonzero(np.sort(values) == value))) for value in values] for values in (a, b)
    ]
    assert found.pearson == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert found.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert correlate(a, np.ones(200, np.float32)).spearman == 0


def test_rows_at_the_mean_fail_and_rows_like_pretrained_ones_pass() -> None:
    old = normal(300, 24)
    mean = old.mean(0) + 1e-5 * normal(40, 24, seed=1)
    collapsed = diagnose("table", torch.cat([old, mean]), rows_of(300, 40))
    assert len(failures(collapsed, CollapseLimits())) == 2
    sound = diagnose("table", torch.cat([old, normal(40, 24, seed=2)]), rows_of(300, 40))
    assert failures(sound, CollapseLimits()) == []
    assert sound.effective_rank_ratio == pytest.approx(1, abs=0.05)


def test_rsa_tells_rows_of_the_codebooks_geometry_from_others() -> None:
    codebook = normal(30, 6).numpy()
    follow = torch.from_numpy(codebook) @ normal(6, 24, seed=1)
    for new, low, high in ((follow, 0.6, 1.0), (normal(30, 24, seed=3), -0.2, 0.2)):
        found = diagnose("table", torch.cat([normal(90, 24), new]), rows_of(90, 30), codebook)
        assert found.rsa is not None
        assert low <= found.rsa.all_pairs.spearman <= high


def test_rsa_within_levels_ignores_pairs_of_two_levels() -> None:
    names = tuple(f"<{level}_{code}>" for level in "ab" for code in range(15))
    codebook = normal(30, 6).numpy()
    rows = torch.from_numpy(codebook) @ normal(6, 24, seed=1)
    rows[15:] *= -1  # across levels everything is the other way round
    found = diagnose("t", torch.cat([normal(60, 24), rows]), NewRows(60, 30, 90, names), codebook)
    assert found.rsa is not None
    assert found.rsa.within_levels is not None
    assert found.rsa.within_levels.pairs == 2 * 15 * 14 // 2
    assert found.rsa.within_levels.spearman > 0.6 > found.rsa.all_pairs.spearman


def test_levels_of_one_token_each_have_no_pairs_to_judge() -> None:
    names = tuple(f"<{level}_0>" for level in "abcdef")
    codebook = normal(6, 4).numpy()
    rows = torch.from_numpy(codebook) @ normal(4, 24, seed=1)
    found = diagnose("t", torch.cat([normal(60, 24), rows]), NewRows(60, 6, 66, names), codebook)
    assert found.rsa is not None
    assert found.rsa.within_levels is None
    assert found.rsa.all_pairs.spearman > 0.5


def test_equal_and_empty_rows_are_counted_and_nan_is_refused_by_row() -> None:
    table = normal(20, 8)
    table[15] = table[12]
    table[17] = 0
    found = diagnose("table", table, rows_of(10, 10))
    assert (found.duplicates, found.zeros) == (1, 1)
    assert "1 new rows equal another" in failures(found, CollapseLimits())[-1]
    table[13, 2] = float("nan")
    with pytest.raises(CheckpointError, match="'table' holds NaN or infinity in row 13"):
        diagnose("table", table, rows_of(10, 10))


def test_rows_of_zeros_alone_are_told() -> None:
    table = normal(20, 8)
    table[10:] = 0
    found = diagnose("table", table, rows_of(10, 10))
    assert failures(found, CollapseLimits()) == [
        "table: all 10 new rows are zeros: they were never set, or not saved"
    ]
    with pytest.raises(CheckpointError, match="'table' holds zeros alone in its pretrained rows, 0 to 9"):
        diagnose("table", table.flip(0), rows_of(10, 10))


def test_half_precision_rows_give_the_figures_of_their_values() -> None:
    table = normal(60, 8).to(torch.bfloat16)
    half, full = (diagnose("t", rows, rows_of(40, 20)).figures() for rows in (table, table.float()))
    assert half == full


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    table = normal(300, 8)
    first, again, other = (
        diagnose("t", table, rows_of(100, 200), sampling=Sampling(rows=20, seed=seed)).figures()
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_new_rows_are_told_by_count_by_id_or_by_name(tmp_path: Path) -> None:
    tokens = ["<a_0>", "<a_1>", "<b_0>", "<b_1>"]
    vocabulary = checkpoints.tiny_tokenizer()
    vocabulary.add_tokens(tokens)
    vocabulary.save(str(tmp_path / "tokenizer.json"))
    first = vocabulary.token_to_id("<a_0>")
    assert first is not None
    named = resolve_new_rows(tmp_path, 101)
    assert (named.first, named.count, named.names) == (first, 4, tuple(tokens))
    assert named.levels == ("a", "a", "b", "b")
    last = resolve_new_rows(tmp_path, 101, new_tokens=30)
    assert (last.first, last.count) == (71, 30)
    tail = resolve_new_rows(tmp_path, 101, first_new=first)
    assert (tail.first, tail.count, tail.levels) == (first, 101 - first, None)
    both = resolve_new_rows(tmp_path, 101, first_new=50, new_tokens=5)
    assert (both.first, both.count) == (50, 5)
    with pytest.raises(InvalidRequest, match="99 to 108 do not lie"):
        resolve_new_rows(tmp_path, 101, first_new=99, new_tokens=10)
    checkpoints.tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="give --new-tokens or --first-new"):
        resolve_new_rows(tmp_path, 101)


@pytest.mark.parametrize("tied", [True, False])
def test_untied_tables_are_judged_each_and_tied_ones_once(tied: bool, tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "qwen3", tie_word_embeddings=tied)
    report = audit_tokens(folder, new_tokens=40)
    names = ["model.embed_tokens.weight", "lm_head.weight"]
    assert [table.table for table in report.tables] == names[: 1 if tied else 2]
    assert report.tied is tied
    assert report.passed
    json.dumps(report.as_json(), allow_nan=False)


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "mamba")
    with pytest.raises(CheckpointError, match="holds no embedding table"):
        audit_tokens(folder, new_tokens=40)


def test_codebooks_are_read_level_after_level_and_misfits_are_named(tmp_path: Path) -> None:
    levels = np.arange(24, dtype=np.float64).reshape(2, 3, 4)
    np.save(tmp_path / "flat.npy", levels.reshape(6, 4))
    np.save(tmp_path / "levels.npy", levels)
    np.savez(tmp_path / "levels.npz", b=levels[1], a=levels[0])
    for name in ("flat.npy", "levels.npy", "levels.npz"):
        np.testing.assert_array_equal(read_codebook(tmp_path / name, 6), levels.reshape(6, 4))
    with pytest.raises(InvalidRequest, match="has 6 vectors for 7 new tokens"):
        read_codebook(tmp_path / "flat.npy", 7)
    np.save(tmp_path / "ids.npy", np.arange(6))
    with pytest.raises(InvalidRequest, match=r"holds int64 \(6,\)"):
        read_codebook(tmp_path / "ids.npy", 6)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_codebook(tmp_path / "objects.npy", 1)


@pytest.mark.parametrize("limit", ["min_effective_rank", "max_mean_cosine", "min_rsa", "max_duplicates"])
def test_a_limit_that_is_no_number_is_refused_by_its_flag(limit: str) -> None:
    with pytest.raises(InvalidRequest, match=f"--{limit.replace('_', '-')} is nan"):
        CollapseLimits(**{limit: float("nan")})  # type: ignore[arg-type]


@pytest.mark.parametrize("free", ["<|reserved_special_token_{}|>", "<|dummy_{}|>", "[unused{}]"])
def test_places_that_a_tokenizer_keeps_free_are_no_new_rows(free: str, tmp_path: Path) -> None:
    """Llama 3, Phi-4 and ModernBERT have them right before what is added."""
    vocabulary = checkpoints.tiny_tokenizer()
    vocabulary.add_tokens([free.format(place) for place in range(3)])
    vocabulary.add_tokens(["<a_0>", "<a_1>"])
    vocabulary.save(str(tmp_path / "tokenizer.json"))
    assert resolve_new_rows(tmp_path, 101).names == ("<a_0>", "<a_1>")
