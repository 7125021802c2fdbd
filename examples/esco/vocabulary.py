"""The ranker's tokenizer: MiniLM's WordPiece vocabulary, pruned to the pieces of the training phrases.

Pruning instead of training one anew lets every row of the ranker's embedding start from MiniLM's row.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, UNK, BOS, EOS = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
LABELS = ("yes", "no")
PREFIX_MAX_TOKENS = 40  # of the query, as in prompt.toml


@dataclass(frozen=True, slots=True)
class PromptIds:
    """The token ids that the prompt is made of, read from a ranker's tokenizer."""

    pad: int
    start: int
    end: int
    labels: tuple[int, int]  # yes, no

    @classmethod
    def of(cls, tokenizer: Any) -> "PromptIds":
        """Looks the names up; the demo's own tokenizers have them all."""
        pad, start, end, yes, no = tokenizer.convert_tokens_to_ids([PAD, BOS, EOS, *LABELS])
        return cls(pad, start, end, (yes, no))

    def prefix(self, tokenizer: Any, query: str) -> list[int]:
        """Start token and query, cut at the prompt's limit."""
        return [self.start, *tokenizer(query, add_special_tokens=False)["input_ids"][:PREFIX_MAX_TOKENS]]


def pruned_tokenizer(source: Tokenizer, texts: Iterable[str]) -> Any:
    """Special tokens, labels, ASCII characters and every piece that `texts` use; adds no token by itself."""
    pieces = {piece for text in texts for piece in source.encode(text, add_special_tokens=False).tokens}
    pieces |= {piece for piece in source.get_vocab() if _is_character(piece)}
    kept = [*SPECIAL_TOKENS, *LABELS, *sorted(pieces - {*SPECIAL_TOKENS, *LABELS})]
    tokenizer = Tokenizer(models.WordPiece({piece: id for id, piece in enumerate(kept)}, unk_token=UNK))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    build: Any = PreTrainedTokenizerFast
    return build(tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNK, bos_token=BOS, eos_token=EOS)


def _is_character(piece: str) -> bool:
    return piece.isascii() and len(piece.removeprefix("##")) == 1
