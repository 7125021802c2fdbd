"""The bundle's tokenizer beside the checkpoint's own, as transformers loads it: equal ids of sample texts.

Owns the comparison and its texts. Frames and prompts are a kind's.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tokenizers

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.own_tokenizer import ids_by, own_tokenizer, unlisted_tokens
from rankport.exporters.checkpoints.telling_texts import Encode, read_otherwise, shortened, telling_texts
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.prompt.tokenizer import Tokenizer, without_dropout

TEXTS = (
    "engineer",
    "Senior Data Engineer (m/f/d), C++/C# & .NET",
    "  two  spaces\tand a tab\nand a line ",
    "PILOT pilot Pilot",
    "Café, naïve Żółć, ﬁancée",
    "İstanbul straße ΣΊΣΥΦΟΣ",
    "数据工程师 データ 엔지니어",
    "3.14 1,000,000 2026-11-27 #1 50%",
    "don't we're l'été",
    "https://example.org/a?b=c&d=e_f",
    "emoji 👩‍🍳🚀 and a zero-width\u200bspace",
    "query: yes no",
)
"""Case, accents, spaces, digits, punctuation and scripts: what normalizers and splits of tokenizers differ in."""
_DRAWN = 52
_LONGEST_TOKENS = 12


def tokenizer_differences(bundle: Bundle, source: Checkpoint) -> list[str]:
    """Says where the ids of a bundle's tokenizer are not those of its checkpoint's; empty if they are equal."""
    name, file = bundle.manifest.tokenizer, source.tokenizer_file
    if name is None or file is None:
        missing = "bundle" if name is None else "checkpoint"
        return (
            []
            if name is None and file is None
            else [f"tokenizer: the {missing} has none, its counterpart has"]
        )
    tokenizer, own = Tokenizer.from_file(bundle.file(name)), Tokenizer.from_file(file)
    special = own.special_tokens()  # by their text alone no request gets one
    texts = [text for text in (*TEXTS, *_drawn(own)) if not any(name in text for name in special)]
    texts += [*_unlisted(file), *telling_texts(without=special)]
    encode = owner_encode(file)
    wrong = read_otherwise(texts, partial(_encode, tokenizer), encode)
    if not wrong:
        return []
    text = shortened(min(wrong, key=len), partial(_encode, tokenizer), encode)
    return [
        f"tokenizer: {len(wrong)} of {len(texts)} texts get other ids than by the checkpoint's own tokenizer: "
        f"{text!r} is {_encode(tokenizer, [text])[0]}, there {encode([text])[0]}"
    ]


def _encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [ids.tolist() for ids in tokenizer.encode_batch(texts)]


def owner_encode(file: Path) -> Encode:
    """Loads the tokenizer as its owner does: by transformers where the folder says how, else from the file alone."""
    if (file.parent / "tokenizer_config.json").is_file():
        return partial(ids_by, own_tokenizer(file))
    inner = without_dropout(tokenizers.Tokenizer.from_file(str(file)))
    inner.no_padding()
    inner.no_truncation()
    return lambda texts: [
        encoding.ids for encoding in inner.encode_batch(list(texts), add_special_tokens=False)
    ]


def _unlisted(file: Path) -> list[str]:
    """Lists tokens that the owner's tokenizer has and its tokenizer.json lacks."""
    if not (file.parent / "tokenizer_config.json").is_file():
        return []
    return unlisted_tokens(own_tokenizer(file), tokenizers.Tokenizer.from_file(str(file)))


def _drawn(tokenizer: Tokenizer) -> list[str]:
    """Decodes runs of tokens drawn from the vocabulary."""
    rng = np.random.default_rng(0)
    runs = [rng.integers(0, tokenizer.vocab_size, rng.integers(1, _LONGEST_TOKENS)) for _ in range(_DRAWN)]
    return [tokenizer.decode(run) for run in runs]
