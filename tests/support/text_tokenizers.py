"""Small tokenizers of the kinds that rankers come with, made of a few lines."""

from collections.abc import Sequence
from functools import cache

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from rankport.runtime.prompt.tokenizer import Tokenizer

LINES = (
    "<Query>: what is it \n<Document>: it is yes no",
    "Instruct: Given a web search query, retrieve relevant passages that answer the query",
    "query: passage: A: B: red shoes, blue shoes; 12 boots: 3.5 (new)\n\n",
)
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
KINDS = ("byte-level", "qwen", "word-piece", "metaspace", "gemma")


@cache
def saved(
    kind: str, lines: Sequence[str] = LINES, special: tuple[str, ...] = (), added: tuple[str, ...] = ()
) -> str:
    """Makes a tokenizer; its `tokenizer.json`. Text never becomes a `special` token, but an `added` one."""
    if kind == "word-piece":
        made = _word_pieces(lines)
    else:
        made, trainer = _trainable(kind)
        made.train_from_iterator(list(lines) * 20, trainer)
    if kind == "gemma":  # its pieces were made of words, its merges are looked up in the whole text
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.add_special_tokens(list(special))
    made.add_tokens(list(added))
    return made.to_str()


def tokenizer_of(kind: str) -> Tokenizer:
    """Makes the runtime's tokenizer of a kind."""
    return Tokenizer(tokenizers.Tokenizer.from_str(saved(kind)))


def _word_pieces(lines: Sequence[str]) -> tokenizers.Tokenizer:
    """Makes one of the lines' words and letters; the library's trainer gives another one in each process."""
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    texts = map(normalizer.normalize_str, lines)
    words = sorted({word for text in texts for word, _ in splitter.pre_tokenize_str(text)})
    letters = sorted(set("".join(words)))
    pieces = dict.fromkeys(["[UNK]", *letters, *(f"##{letter}" for letter in letters), *words])
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    made = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizer, splitter  # type: ignore[assignment]
    return made


def _trainable(kind: str) -> tuple[tokenizers.Tokenizer, trainers.Trainer]:
    made = tokenizers.Tokenizer(models.BPE(byte_fallback=kind == "gemma"))
    names: list[str] = []
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if kind == "byte-level":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    elif kind == "qwen":
        made.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(tokenizers.Regex(QWEN_SPLIT), "isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        made.decoder = decoders.ByteLevel()
    else:
        alphabet = []
        names = [f"<0x{byte:02X}>" for byte in range(256)]
        if kind == "metaspace":
            made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        else:
            made.normalizer = normalizers.Replace(" ", "▁")
            made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    trainer = trainers.BpeTrainer(
        vocab_size=600 if kind in ("metaspace", "gemma") else 400,
        initial_alphabet=alphabet,
        special_tokens=names,
        show_progress=False,
    )
    return made, trainer
