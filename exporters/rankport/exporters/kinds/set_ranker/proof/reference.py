"""The source run the plain way: history and candidates of one request in one pass of its own two methods."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rankport.exporters.kinds.set_ranker.facts import AnySets, SetFacts, facts_of, features_of
from rankport.exporters.kinds.set_ranker.proof.samples import Columns, SetSample
from rankport.exporters.kinds.set_ranker.rows import rounded_rows, table_of
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.bundle.sections.sets import SetFeature

Logits = NDArray[np.float32]  # [candidates, heads]
_CLEAR = 0.02
"""Distance of two scores, of the deviation of all, that half precision does not bridge."""


@dataclass(frozen=True, slots=True)
class SetReference:
    """Logits of a module, in fp32, over tables rounded as a bundle's are."""

    module: AnySets
    facts: SetFacts
    tables: nn.ModuleDict

    @classmethod
    def of(cls, module: AnySets, manifest: Manifest) -> "SetReference":
        """Rounds the module's own tables."""
        assert manifest.sets is not None
        tables = {
            name: table_of(
                rounded_rows(module.tables[name].weight, table.dtype).values  # type: ignore[arg-type]
            )
            for name, table in manifest.sets.files.items()
        }
        return cls(module, facts_of(module), nn.ModuleDict(tables))

    def logits(self, sample: SetSample) -> Logits:
        """Scores the candidates of a request by the module's mask."""
        mask = self.facts.schema.mask
        with torch.no_grad():
            if mask.policy == "set-wise":
                return self._pass(sample, sample.sessions)
            alone = self._pass(sample, None)
            if mask.top_k is None:
                return alone
            return self._second_pass(sample, alone, mask.top_k)

    def alone(self, sample: SetSample) -> Logits:
        """Scores the candidates of a request each by itself."""
        with torch.no_grad():
            return self._pass(sample, None)

    def cut_clearly(self, sample: SetSample) -> SetSample:
        """Leaves out candidates that a first pass hardly tells from the last that it takes: an order would choose.

        They are many where features are few: equal ids, or ids that are all unknown, have equal scores.
        """
        top_k = self.facts.schema.mask.top_k
        if top_k is None or top_k >= len(sample.sessions):
            return sample
        scores = self._combined(self.alone(sample))
        behind = np.argsort(-scores, kind="stable")
        last, rest = scores[behind[top_k - 1]], behind[top_k:]
        hardly = rest[last - scores[rest] <= _CLEAR * scores.std()]
        return _part(sample, np.setdiff1d(np.arange(len(scores)), hardly))

    def _combined(self, logits: Logits) -> NDArray[np.float32]:
        """Sums the scores of heads by weight: what a first pass is ordered by. [candidates]"""
        weights = np.array(
            [self.facts.head_weights.get(name, 0.0) for name in self.facts.outputs], np.float32
        )
        scores = torch.from_numpy(logits)
        if self.facts.score.transform == "sigmoid":
            scores = torch.sigmoid(scores)
        combined: NDArray[np.float32] = scores.numpy() @ weights
        return combined

    def _second_pass(self, sample: SetSample, alone: Logits, top_k: int) -> Logits:
        first = np.argsort(-self._combined(alone), kind="stable")[:top_k]
        again = _part(sample, first)
        logits = alone.copy()
        logits[first] = self._pass(again, again.sessions)
        return logits

    def _pass(self, sample: SetSample, sessions: NDArray[np.int64] | None) -> Logits:
        schema = self.facts.schema
        times = torch.from_numpy(sample.times)
        events = self._features(schema.event, sample.history)
        state = self.module.history(events, times, self._no_past(), times[:0])
        ranked = self._features(schema.candidate, sample.candidates)
        seen = None if sessions is None else torch.from_numpy(sessions)
        logits = self.module.rank(ranked, torch.tensor([sample.now]), state, times, seen)
        return np.asarray(logits.float().numpy(), np.float32)

    def _features(self, features: list[SetFeature], columns: Columns) -> Tensor:
        given: Mapping[str, Tensor] = {name: _tensor(column) for name, column in columns.items()}
        rows: Tensor = features_of(self.facts.schema)(features, given, self.tables, self.module.ids)
        return rows

    def _no_past(self) -> list[Tensor]:
        return [
            torch.zeros(layer.kv_heads, 0, layer.head_dim) for layer in self.facts.layers for _ in range(2)
        ]


def _part(sample: SetSample, places: NDArray[np.int64]) -> SetSample:
    """Takes some of a sample's candidates."""
    chosen = {name: column[places] for name, column in sample.candidates.items()}
    return SetSample(sample.history, chosen, sample.times, sample.now, sample.sessions[places])


def _tensor(column: NDArray[np.generic]) -> Tensor:
    """Gives a column, unsigned ids by their bits."""
    return torch.from_numpy(column.view(np.int64) if column.dtype == np.uint64 else column)
