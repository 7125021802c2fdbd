"""The language model of movies: a tokenizer of their own texts, and what `ground` reads of their semantic IDs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from examples.gti.semantic_ids import SemanticIds

_SPECIAL = ("[PAD]", "[BOS]", "[EOS]")


def tokenizer_of(texts: Sequence[str], vocabulary: int) -> Any:
    """Trains a byte-level BPE of that many tokens; [BOS] begins what it tokenizes."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 1)])
    pad, bos, eos = _SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad)


def write_pairs(texts: Sequence[str], ids: SemanticIds, pairs: Path, tokens: Path) -> None:
    """Writes each movie's text beside its semantic ID, and all new tokens in the order of their ids."""
    with pairs.open("w", encoding="utf-8") as lines:
        for movie, text in enumerate(texts):
            lines.write(json.dumps({"text": text, "tokens": ids.of(movie)}) + "\n")
    tokens.write_text("\n".join(ids.tokens) + "\n", encoding="utf-8")
