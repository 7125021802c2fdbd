"""Spans by the definition in docs/tagging.md, a text at a time: the checkpoint's own forward, decoded in torch.

Owns an independent decoding. The best path of a CRF and the probabilities of its parts are gradients of one sum over
paths: with max in the place of log-sum-exp of the best score, else of the log of the sum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rankport.exporters.kinds.tagger.crf_files import CrfFiles

Found = list[tuple[int, int, str, float]]  # first unit, behind the last, type, score
Reduce = Callable[[Tensor, int], Tensor]
_NEVER = -1e9  # score of a segment that cannot be
_PREFIXES = ("B-", "I-", "E-", "S-", "L-", "U-")


@dataclass(frozen=True, slots=True)
class OwnDecoder:
    """Labels of a head, and the CRF beside it."""

    names: Sequence[str]
    crf: CrfFiles | None

    def decode(self, logits: NDArray[np.float32]) -> Found:
        """Decodes one text. [units, labels]"""
        if not len(logits):
            return []
        exact = torch.tensor(logits, dtype=torch.float64)
        if self.crf is None:
            return self._joined(exact.argmax(1).tolist(), exact.softmax(1).amax(1).tolist())
        if self.crf.crf.max_segment is None:
            best = _gradient(lambda rows: _chain(rows, self.crf, _most), exact)
            sums = _gradient(lambda rows: _chain(rows, self.crf, _log_sum), exact)
            labels = best.argmax(1)
            return self._joined(labels.tolist(), sums[range(len(labels)), labels].tolist())
        own = self._segments(exact)
        best = _gradient(lambda scores: _cuts(scores, self.crf, _most), own)
        sums = _gradient(lambda scores: _cuts(scores, self.crf, _log_sum), own)
        chosen = [(end - length, end, label) for end, length, label in (best > 0.5).nonzero().tolist()]
        kinds = self.crf.tables.labels
        return sorted(
            (begin, end, kinds[label], float(sums[end, end - begin, label]))
            for begin, end, label in chosen
            if kinds[label] != "O"
        )

    def _joined(self, labels: Sequence[int], scores: Sequence[float]) -> Found:
        """Joins labels to spans, a unit at a time."""
        prefixed = all(name == "O" or name[:2] in _PREFIXES for name in self.names)
        found: list[tuple[int, str, list[float]]] = []
        before = ("O", "")
        for unit, label in enumerate(labels):
            name = self.names[label]
            part, kind = (
                (name[0], name[2:]) if prefixed and name != "O" else ("O" if name == "O" else "I", name)
            )
            apart = not prefixed and "O" not in self.names
            goes_on = before[0] not in ("O", *"ESLU") and before[1] == kind and part not in ("B", "S", "U")
            if part != "O":
                if goes_on and not apart:
                    found[-1][2].append(scores[unit])
                else:
                    found.append((unit, kind, [scores[unit]]))
            before = (part, kind)
        return [(first, first + len(own), kind, sum(own) / len(own)) for first, kind, own in found]

    def _segments(self, logits: Tensor) -> Tensor:
        """Scores every segment by itself. [units + 1 (end), lengths + 1, labels]"""
        assert self.crf is not None
        tables = self.crf.tables
        assert tables.lengths is not None
        units, most = len(logits), tables.lengths.shape[1]
        scores = torch.full((units + 1, most + 1, len(tables.labels)), _NEVER, dtype=torch.float64)
        for end in range(1, units + 1):
            for length in range(1, min(most, end) + 1):
                for label, kind in enumerate(tables.labels):
                    spelled = _spelled(kind, length, self.names)
                    if spelled is not None:
                        own = sum(logits[end - length + place, tag] for place, tag in enumerate(spelled))
                        scores[end, length, label] = own + tables.lengths[label, length - 1]
        return scores


def _spelled(kind: str, length: int, names: Sequence[str]) -> list[int] | None:
    """Spells a segment in labels of the head; None where it cannot be."""
    if kind == "O":
        tags = ["O"] if length == 1 else [""]
    elif kind in names:
        tags = [kind] * length
    else:
        letters = {name[0] for name in names if name != "O"}
        single, last = ("S", "E") if "E" in letters or "S" in letters else ("U", "L")
        if letters & {"E", "S", "L", "U"}:
            parts = [single] if length == 1 else ["B", *"I" * (length - 2), last]
        else:
            parts = list("I" * length) if letters == {"I"} else ["B", *"I" * (length - 1)]
        tags = [f"{part}-{kind}" for part in parts]
    return [names.index(tag) for tag in tags] if all(tag in names for tag in tags) else None


def _gradient(score: Callable[[Tensor], Tensor], of: Tensor) -> Tensor:
    with torch.enable_grad():
        values = of.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(score(values), values)
    return gradient


def _most(values: Tensor, axis: int) -> Tensor:
    return values.amax(axis)


def _log_sum(values: Tensor, axis: int) -> Tensor:
    return values.logsumexp(axis)


def _chain(logits: Tensor, files: CrfFiles | None, reduce: Reduce) -> Tensor:
    """Sums over all label paths."""
    transitions, start, end = _tables(files)
    reached = start + logits[0]
    for row in logits[1:]:
        reached = reduce(reached[:, None] + transitions, 0) + row
    return reduce(reached + end, 0)


def _cuts(scores: Tensor, files: CrfFiles | None, reduce: Reduce) -> Tensor:
    """Sums over all cuts into segments."""
    transitions, start, end = _tables(files)
    entered, reached = [start], start
    for place in range(1, len(scores)):
        most = min(scores.shape[1] - 1, place)
        ways = [entered[place - length] + scores[place, length] for length in range(1, most + 1)]
        reached = reduce(torch.stack(ways), 0)
        entered.append(reduce(reached[:, None] + transitions, 0))
    return reduce(reached + end, 0)


def _tables(files: CrfFiles | None) -> tuple[Tensor, Tensor, Tensor]:
    assert files is not None
    tables = files.tables
    return torch.tensor(tables.transitions), torch.tensor(tables.start), torch.tensor(tables.end)
