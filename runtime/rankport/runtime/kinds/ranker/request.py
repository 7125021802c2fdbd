"""A request of a ranker: as it was asked, and as it is encoded. Owns no tokenizer, store or engine."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from rankport.protos.columns import ItemColumns
from rankport.protos.types import Item, OnMissing, Prefix, Truncation
from rankport.runtime.kinds.score_answer import ScoredItems
from rankport.runtime.prompt.encoded import EncodedPrefix, KeyedTokens


@dataclass(frozen=True, slots=True)
class Asked:
    """Items to score behind a prefix, and how."""

    prefix: Prefix
    items: Iterable[Item] | ItemColumns
    truncation: Truncation
    on_missing: OnMissing
    timeout_s: float | None = None
    begun_s: float = 0.0  # by `time.perf_counter`
    absent: Set[str] = frozenset()  # keys that another process told are not on its device


@dataclass(frozen=True, slots=True)
class Encoded:
    """Runs of tokens of what was asked."""

    asked: Asked  # with items that can be read again
    prefix: EncodedPrefix
    scored: ScoredItems
    keyed: KeyedTokens

    @property
    def on_device(self) -> int:
        """Count of the keys whose tokens are in a device's memory."""
        return 0 if self.keyed.resident is None else len(self.keyed.resident.places)

    @property
    def named(self) -> Sequence[str] | None:
        """Keys that are named to another process, whose device may have their tokens; None: none are."""
        return None if self.keyed.resident is None else self.keyed.resident.keys
