"""The texts of a classifier's request as runs of tokens: single ones, or pairs."""

from dataclasses import dataclass
from typing import Self

from rankport.protos.classes import ClassTexts
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Prefix, Truncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.kinds.class_pairs import encode_class_pairs
from rankport.runtime.kinds.score_answer import ScoredItems
from rankport.runtime.prompt.encoded import EncodedItems
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.pairs import PairEncoder


@dataclass(frozen=True, slots=True)
class ClassEncoder:
    """Encoder of what a bundle reads: one text, or two together."""

    name: str  # of the bundle, in messages
    reads: PromptEncoder | PairEncoder

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """Makes the encoder of an opened bundle. Raises `BundleError` if its tokenizer and prompt do not fit."""
        paired = bundle.manifest.pair is not None
        reads = PairEncoder.from_bundle(bundle) if paired else PromptEncoder.from_bundle(bundle)
        return cls(bundle.manifest.name, reads)

    def encode(self, texts: ClassTexts, prefix: Prefix | None, truncation: Truncation) -> ScoredItems:
        """Encodes texts or pairs.

        Raises:
            InvalidRequest: a text is malformed, or there are pairs where single texts are read, or the reverse.
            LimitExceeded: a text is too long and `truncation` is "error".
        """
        if not len(texts):
            return ScoredItems(0, EncodedItems.in_order([]))
        if isinstance(self.reads, PairEncoder):
            whose = f"classifier {self.name!r}"
            pairs = encode_class_pairs(whose, self.reads, texts, prefix, truncation)
            return ScoredItems(len(texts), pairs, part="pair")
        self._refuse_first_texts(texts, prefix)
        return ScoredItems(
            len(texts), self.reads.encode_items(texts.texts, truncation, skip_empty=True), part="text"
        )

    def _refuse_first_texts(self, texts: ClassTexts, prefix: Prefix | None) -> None:
        if texts.firsts is not None:
            raise InvalidRequest(
                f"texts[0] is a pair, and classifier {self.name!r} reads one text: give texts alone"
            )
        if prefix is not None:
            raise InvalidRequest(f"prefix: classifier {self.name!r} reads one text: leave the prefix out")
