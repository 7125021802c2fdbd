"""The ranker's tokenizer: WordPiece over whole words of the training texts and of MiniLM's vocabulary.

Whole words, since every row of the ranker's embedding starts from MiniLM's vector of its piece, which says more of a
word than of its parts. Words that training never meets keep that start: they are what a query about an unseen item
is made of.
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, UNK, BOS, EOS = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")
LABELS = ("yes", "no")
ENGLISH_WORDS = Path(__file__).parent / "data" / "words.txt.gz"
PREFIX_MAX_TOKENS = 40  # of the query, as in prompt.toml
FREQUENCY = 2  # weight of a word's rank in English beside that of its nearness
RARE = 3  # times that a word must occur in the items' texts to be a piece


@dataclass(frozen=True, slots=True)
class PromptIds:
    """The token ids that the prompt is made of, read from a ranker's tokenizer."""

    pad: int
    start: int
    labels: tuple[int, int]  # yes, no

    @classmethod
    def of(cls, tokenizer: Any) -> "PromptIds":
        """Looks the names up; the demo's own tokenizers have them all."""
        pad, start, yes, no = tokenizer.convert_tokens_to_ids([PAD, BOS, *LABELS])
        return cls(pad, start, (yes, no))

    def prefix(self, tokenizer: Any, query: str) -> list[int]:
        """Start token and query, cut at the prompt's limit."""
        return [self.start, *tokenizer(query, add_special_tokens=False)["input_ids"][:PREFIX_MAX_TOKENS]]


def words_of(text: str) -> list[str]:
    """Runs of the letters a to z, in lower case."""
    return re.findall(r"[a-z]+", text.lower())


def known_words(source: Tokenizer) -> list[str]:
    """Whole words of the source's vocabulary, three letters or longer, sorted."""
    return sorted(piece for piece in source.get_vocab() if re.fullmatch("[a-z]{3,}", piece))


def english_words() -> list[str]:
    """60,000 frequent words of English, the most frequent first."""
    return gzip.decompress(ENGLISH_WORDS.read_bytes()).decode("ascii").split()


def useful_words(near: Sequence[str]) -> list[str]:
    """Orders words, those first that are both near to the domain, as `near` has them, and frequent in English."""
    frequency = {word: rank for rank, word in enumerate(english_words())}
    rare = len(frequency)
    ranks = {word: rank + FREQUENCY * frequency.get(word, rare) for rank, word in enumerate(near)}
    return sorted(near, key=ranks.__getitem__)


def ranker_tokenizer(
    source: Tokenizer, phrases: Sequence[str], items: Sequence[str], words: Iterable[str], size: int
) -> Any:
    """Special tokens, labels, ASCII characters, continuations that the texts use, and whole words.

    The words are those of `phrases`, those that occur `RARE` times in `items`, and the first of `words` up to `size`
    pieces in all. Adds no token by itself.
    """
    used = {
        piece for text in (*phrases, *items) for piece in source.encode(text, add_special_tokens=False).tokens
    }
    pieces = {*SPECIAL_TOKENS, *LABELS} | {piece for piece in used if piece.startswith("##")}
    pieces |= {piece for piece in source.get_vocab() if _is_character(piece)}
    pieces |= {word for text in phrases for word in words_of(text)}
    counts = Counter(word for text in items for word in words_of(text))
    pieces |= {word for word, count in counts.items() if count >= RARE}
    others = [word for word in words if word not in pieces]
    return build_tokenizer(pieces.union(others[: max(0, size - len(pieces))]))


def build_tokenizer(pieces: Iterable[str]) -> Any:
    """Special tokens and labels first, then `pieces` in sorted order."""
    kept = [*SPECIAL_TOKENS, *LABELS, *sorted(set(pieces) - {*SPECIAL_TOKENS, *LABELS})]
    tokenizer = Tokenizer(models.WordPiece({piece: id for id, piece in enumerate(kept)}, unk_token=UNK))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    build: Any = PreTrainedTokenizerFast
    return build(tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNK, bos_token=BOS, eos_token=EOS)


def piece_texts(tokenizer: Any) -> list[str]:
    """Each piece as a text of its own, in the order of ids."""
    return [piece.removeprefix("##") for piece in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]


def spellings(tokenizer: Any) -> dict[int, tuple[int, ...]]:
    """How each word of six letters or more is spelt in shorter pieces, longest first, by its id."""
    vocab: dict[str, int] = tokenizer.get_vocab()
    found = {id: _spell(word, vocab) for word, id in vocab.items() if re.fullmatch("[a-z]{6,}", word)}
    return {id: pieces for id, pieces in found.items() if pieces}


def _spell(word: str, vocab: Mapping[str, int]) -> tuple[int, ...]:
    pieces: list[int] = []
    start, end = 0, len(word) - 1
    while start < end:
        piece = word[start:end] if start == 0 else f"##{word[start:end]}"
        if piece in vocab:
            pieces.append(vocab[piece])
            start, end = end, len(word)
        else:
            end -= 1
    return tuple(pieces) if start == len(word) else ()


def _is_character(piece: str) -> bool:
    return piece.isascii() and len(piece.removeprefix("##")) == 1
