"""CRF decoding against every path and every cut written out."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from rankport.protos.columns import offsets_of
from rankport.runtime.kinds.tagger.by_step import ByStep
from rankport.runtime.kinds.tagger.labels import LabelScheme
from rankport.runtime.kinds.tagger.linear_chain import best_labels, label_probabilities
from rankport.runtime.kinds.tagger.semi_markov import SegmentScores, best_segments
from rankport.runtime.kinds.tagger.tables import CrfTables, crf_labels

OFFSETS = offsets_of(np.array([3, 0, 5, 1]))
BIO = ["O", "B-a", "I-a", "B-b", "I-b"]
SCHEMES = [BIO, ["O", "a", "b"], ["B-a", "I-a", "E-a", "S-a", "O", "S-b", "B-b", "E-b"]]


def texts(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the first unit of each text and its logits, empty ones left out."""
    for first, last in itertools.pairwise(OFFSETS.tolist()):
        if first < last:
            yield first, values[first:last]


@pytest.mark.parametrize("forbidding", [False, True])
def test_linear_chain_finds_the_best_path_and_its_probabilities(forbidding: bool) -> None:
    rng = np.random.default_rng(0)
    tables = CrfTables(tuple(BIO), rng.normal(size=(5, 5)), rng.normal(size=5), rng.normal(size=5))
    if forbidding:  # of a text of one unit every path has what cannot be
        tables.start[1:] = tables.end[0] = -10000
    logits = rng.normal(size=(OFFSETS[-1], 5)) * 2
    steps = ByStep.of(OFFSETS)
    labels = best_labels(tables, logits, steps)
    probabilities = label_probabilities(tables, logits, steps, labels)
    for first, own in texts(logits):
        scores = {}
        for path in itertools.product(range(5), repeat=len(own)):
            moves = sum(tables.transitions[a, b] for a, b in itertools.pairwise(path))
            scores[path] = (
                tables.start[path[0]] + tables.end[path[-1]] + moves + own[range(len(own)), path].sum()
            )
        best = max(scores, key=scores.__getitem__)
        assert tuple(labels[first : first + len(own)]) == best
        weights = {path: np.exp(score - scores[best]) for path, score in scores.items()}
        for place, label in enumerate(best):
            through = sum(weight for path, weight in weights.items() if path[place] == label)
            assert probabilities[first + place] == pytest.approx(through / sum(weights.values()))


@pytest.mark.parametrize("names", SCHEMES, ids=["BIO", "IO", "BIOES"])
def test_semi_markov_finds_the_best_cut_and_its_probabilities(names: list[str]) -> None:
    rng = np.random.default_rng(len(names))
    scheme = LabelScheme.of(names)
    labels = crf_labels("semi-markov", scheme)
    count, most = len(labels), 3
    sizes = [(count, count), (count,), (count,), (count, most)]
    tables = CrfTables(labels, *(rng.normal(size=size) for size in sizes))
    logits = rng.normal(size=(OFFSETS[-1], len(names))) * 2
    spans = best_segments(tables, SegmentScores.of(logits, scheme, tables), ByStep.of(OFFSETS))
    expected = [
        (first + begin, first + end, scheme.types.index(labels[label]), probability)
        for first, own in texts(logits)
        for begin, end, label, probability in best_cut(own, names, scheme, tables)
        if labels[label] != "O"
    ]
    found = list(zip(spans.first, spans.last, spans.types, spans.scores, strict=True))
    assert [span[:3] for span in found] == [span[:3] for span in expected]
    np.testing.assert_allclose([span[3] for span in found], [span[3] for span in expected], rtol=1e-9)


def test_a_long_text_of_seven_types_is_cut_as_step_by_step() -> None:
    """400 units, cuts forbidden and not, beside Viterbi and the sums before and behind written as sums over lists."""
    rng = np.random.default_rng(7)
    names = ["O", *(f"{part}-t{kind}" for kind in range(7) for part in "BIES")]
    scheme = LabelScheme.of(names)
    labels = crf_labels("semi-markov", scheme)
    count, most = len(labels), 6
    moves = rng.normal(size=(count, count))
    moves[rng.random(moves.shape) < 0.3] = -10000
    tables = CrfTables(labels, moves, *(rng.normal(size=size) for size in (count, count, (count, most))))
    logits = rng.normal(size=(400, len(names))) * 2
    offsets = offsets_of(np.array([400]))
    spans = best_segments(tables, SegmentScores.of(logits, scheme, tables), ByStep.of(offsets))
    expected = best_cut_by_steps(logits, names, scheme, tables)
    found = zip(spans.first, spans.last, spans.types, strict=True)
    assert [(first, last, scheme.types[kind]) for first, last, kind in found] == [cut[:3] for cut in expected]
    np.testing.assert_allclose(spans.scores, [cut[3] for cut in expected], rtol=1e-8)


def best_cut_by_steps(
    logits: np.ndarray, names: list[str], scheme: LabelScheme, tables: CrfTables
) -> list[tuple[int, int, str, float]]:
    """Cuts one text, place after place; gives the types' segments with their probabilities."""
    assert tables.lengths is not None
    units, (count, most) = len(logits), tables.lengths.shape
    own = {
        (begin, end): np.array(
            [segment_score(begin, end, label, logits, names, scheme, tables) for label in range(count)]
        )
        for end in range(1, units + 1)
        for begin in range(max(0, end - most), end)
    }
    best, sums = np.full((units + 1, count), -np.inf), np.full((units + 1, count), -np.inf)
    came = {}
    for end in range(1, units + 1):
        for label in range(count):
            ways, parts = {}, []
            for begin in range(max(0, end - most), end):
                score = own[begin, end][label]
                if begin == 0:
                    ways[0, -1] = tables.start[label] + score
                    parts.append(ways[0, -1])
                    continue
                for before in range(count):
                    move = tables.transitions[before, label] + score
                    ways[begin, before] = best[begin, before] + move
                    parts.append(sums[begin, before] + move)
            came[end, label] = max(ways, key=ways.__getitem__)
            best[end, label] = ways[came[end, label]]
            sums[end, label] = np.logaddexp.reduce(parts)
    behind = np.full((units + 1, count), -np.inf)
    behind[units] = tables.end
    for begin in range(units - 1, 0, -1):
        ends = range(begin + 1, min(units, begin + most) + 1)
        ahead = np.logaddexp.reduce([own[begin, end] + behind[end] for end in ends])
        behind[begin] = np.logaddexp.reduce(tables.transitions + ahead, axis=1)
    total = np.logaddexp.reduce(sums[units] + tables.end)
    cuts, end, label = [], units, int((best[units] + tables.end).argmax())
    while end:
        begin, before = came[end, label]
        entered = sums[begin] + tables.transitions[:, label]
        reached = tables.start[label] if begin == 0 else np.logaddexp.reduce(entered)
        chance = float(np.exp(reached + own[begin, end][label] + behind[end][label] - total))
        cuts.append((begin, end, tables.labels[label], chance))
        end, label = begin, before
    return [cut for cut in reversed(cuts) if cut[2] != "O"]


Cut = tuple[tuple[int, int, int], ...]


def best_cut(
    logits: np.ndarray, names: list[str], scheme: LabelScheme, tables: CrfTables
) -> list[tuple[int, int, int, float]]:
    """Tries every cut of one text; gives the best one's segments with their probabilities."""
    assert tables.lengths is not None
    scores = {
        cut: cut_score(cut, logits, names, scheme, tables) for cut in cuts(len(logits), tables.lengths.shape)
    }
    best = max(scores, key=scores.__getitem__)
    total = sum(map(np.exp, scores.values()))
    return [
        (*segment, sum(np.exp(score) for cut, score in scores.items() if segment in cut) / total)
        for segment in best
    ]


def cuts(units: int, sizes: tuple[int, ...]) -> Iterator[Cut]:
    labels, most = sizes
    if not units:
        yield ()
    for length in range(1, min(most, units) + 1):
        for before in cuts(units - length, sizes):
            for label in range(labels):
                yield (*before, (units - length, units, label))


def cut_score(
    cut: Cut, logits: np.ndarray, names: list[str], scheme: LabelScheme, tables: CrfTables
) -> float:
    labels = [label for _, _, label in cut]
    moves = sum(tables.transitions[a, b] for a, b in itertools.pairwise(labels))
    own = sum(segment_score(*segment, logits, names, scheme, tables) for segment in cut)
    return float(tables.start[labels[0]] + tables.end[labels[-1]] + moves + own)


def segment_score(
    begin: int,
    end: int,
    label: int,
    logits: np.ndarray,
    names: list[str],
    scheme: LabelScheme,
    tables: CrfTables,
) -> float:
    """Adds the logits of the labels that spell a segment; what cannot be spelled cannot be."""
    assert tables.lengths is not None
    name, length = tables.labels[label], end - begin
    if name == "O":
        spelled = ["O"] if length == 1 else ["?"]
    elif scheme.scheme == "IO":
        spelled = [name] * length
    elif scheme.scheme == "BIO":
        spelled = [f"B-{name}", *[f"I-{name}"] * (length - 1)]
    else:
        spelled = [f"S-{name}"] if length == 1 else [f"B-{name}", *[f"I-{name}"] * (length - 2), f"E-{name}"]
    if any(tag not in names for tag in spelled):
        return -np.inf
    return tables.lengths[label, length - 1] + sum(
        logits[begin + place, names.index(tag)] for place, tag in enumerate(spelled)
    )
