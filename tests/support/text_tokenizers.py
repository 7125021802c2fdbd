"""Small tokenizers of the kinds that rankers come with, trained on a few lines."""

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
    """Trains a tokenizer; its `tokenizer.json`. Text never becomes a `special` token, but an `added` one."""
    made, trainer = _made(kind)
    made.train_from_iterator(list(lines) * 20, trainer)
    if kind == "gemma":  # its pieces were made of words, its merges are looked up in the whole text
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.add_special_tokens(list(special))
    made.add_tokens(list(added))
    return made.to_str()


def tokenizer_of(kind: str) -> Tokenizer:
    """Makes the runtime's tokenizer of a kind."""
    return Tokenizer(tokenizers.Tokenizer.from_str(saved(kind)))


def _made(kind: str) -> tuple[tokenizers.Tokenizer, trainers.Trainer]:
    if kind == "word-piece":
        made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return made, trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)
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
