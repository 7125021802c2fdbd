"""The tokenizer of a checkpoint folder as its owner loads it: by transformers."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import tokenizers
import transformers

from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.checkpoints.telling_texts import read_otherwise, shortened, telling_texts
from rankport.protos.errors import CheckpointError
from rankport.protos.wording import counted
from rankport.runtime.prompt.tokenizer import without_dropout

_TEXTS = ("½ ﬁ １", "a job", " a  b\tc\n", "Café & Söhne", "東京", "e\u0301", "don't")
"""Texts that one pipeline reads otherwise than another: compatibility forms, white space, accents, apostrophes."""
_WRITTEN = ("it , too .", "they 've , 5 !")
"""Texts with spaces that a writer may take away."""

REBUILT = (
    "if the model was trained by the file, set tokenizer_class to PreTrainedTokenizerFast in tokenizer_config.json; if "
    "by that class, write the file anew with AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
)
"""Both ways out where transformers' class builds another tokenizer around the file's vocabulary."""


def own_tokenizer(file: Path) -> Any:
    """Loads the tokenizer of a tokenizer.json as the config beside it says, or from the file alone without one.

    Runs no code of the folder. Raises CheckpointError where transformers cannot.
    """
    try:
        with quiet():
            loaded = _loaded(file)
            if (inner := getattr(loaded, "backend_tokenizer", None)) is not None:
                without_dropout(inner)
            return loaded
    except Exception as error:  # the classes raise whatever they like
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{file.parent}: transformers cannot load this tokenizer: {reason:.200}: correct tokenizer_class in "
            "tokenizer_config.json, or remove that file if tokenizer.json alone is right"
        ) from error


def _loaded(file: Path) -> Any:
    if not (file.parent / "tokenizer_config.json").is_file():
        return transformers.PreTrainedTokenizerFast(tokenizer_file=str(file))  # type: ignore[no-untyped-call]
    own = transformers.AutoTokenizer.from_pretrained(
        file.parent,
        local_files_only=True,
        trust_remote_code=False,  # unsaid, transformers asks whoever is at the terminal
        config=_unknown_config(file.parent),
    )
    # What reads words in boxes alone (LayoutLMv3's) says nothing of a text: the file does, with the config's tokens.
    return own if _takes_text(own) else transformers.PreTrainedTokenizerFast.from_pretrained(file.parent)


def _takes_text(own: Any) -> bool:
    try:
        own("a")
    except Exception:  # the classes raise whatever they like
        return False
    return True


def ids_by(own: Any, texts: Sequence[str]) -> list[list[int]]:
    """Encodes texts by a tokenizer of transformers, nothing added. [texts] of [tokens]"""
    made = own(list(texts), add_special_tokens=False, return_attention_mask=False)
    return [list(map(int, ids)) for ids in made["input_ids"]]


def reads_otherwise(file: Path) -> str | None:
    """Says how transformers' class reads a text that tokenizer.json, which a bundle has, reads otherwise; None: none.

    The class builds its own pipeline around the file's vocabulary: DebertaV2Tokenizer leaves compatibility forms as
    they are, which the files of published checkpoints take apart. None too where transformers cannot load it.
    """
    with suppress(CheckpointError):
        own, alone = own_tokenizer(file), without_dropout(tokenizers.Tokenizer.from_file(str(file)))
        alone.no_padding()
        alone.no_truncation()
        readers = partial(_ids, alone), partial(ids_by, own)
        if wrong := read_otherwise([*_TEXTS, *telling_texts()], *readers):
            text = shortened(wrong[0], *readers)
            (theirs,) = ids_by(own, [text])
            return (
                f"tokenizer: transformers' {type(own).__name__} reads {text!r} as "
                f"{own.convert_ids_to_tokens(theirs)}, and tokenizer.json, which the bundle has, as "
                f"{alone.encode(text, add_special_tokens=False).tokens}: {REBUILT}"
            )
        if unlisted := unlisted_tokens(own, alone):
            return (
                f"tokenizer: transformers reads {unlisted[0]!r} as one token, which tokenizer_config.json or "
                f"added_tokens.json lists, {counted(len(unlisted), 'such token')} in all, and tokenizer.json, which "
                "the bundle has, lacks: write the file anew with "
                "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
            )
    return None


def _ids(alone: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    return [read.ids for read in alone.encode_batch(texts, add_special_tokens=False)]


def unlisted_tokens(own: Any, alone: tokenizers.Tokenizer) -> list[str]:
    """Lists the tokens that transformers adds from beside a tokenizer.json, which lacks them.

    But for special ones, which no text of a request becomes.
    """
    added = getattr(own, "added_tokens_decoder", {}).values()
    return [
        token.content for token in added if not token.special and alone.token_to_id(token.content) is None
    ]


def writes_otherwise(file: Path) -> str | None:
    """Says how transformers' class writes tokens as text where tokenizer.json, as a bundle does, writes another.

    `clean_up_tokenization_spaces`, which transformers 4 saved as true, takes spaces away before punctuation, but for
    merged pairs. None too where transformers cannot load it.
    """
    with suppress(CheckpointError):
        own, alone = own_tokenizer(file), without_dropout(tokenizers.Tokenizer.from_file(str(file)))
        for text in (*_TEXTS, *_WRITTEN):
            ids = alone.encode(text, add_special_tokens=False).ids
            ours, theirs = alone.decode(ids), own.decode(ids, skip_special_tokens=True)
            if ours == theirs:
                continue
            kept = own.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            remedy = (
                "clean_up_tokenization_spaces of tokenizer_config.json takes spaces away: set it to false, or take "
                "them away from the bundle's texts"
                if ours == kept
                else REBUILT
            )
            return (
                f"tokenizer: transformers' {type(own).__name__} writes the tokens of {text!r} as {theirs!r}, and a "
                f"bundle, by tokenizer.json, as {ours!r}: {remedy}"
            )
    return None


def _unknown_config(folder: Path) -> transformers.PreTrainedConfig | None:
    """Makes the config of a folder whose model transformers does not know (Control LLM): what a tokenizer reads of it.

    None where transformers reads config.json itself. Of an unknown model it would read all fields, and break at some
    that only a model's class takes: rotary frequencies as Llama 3 scales them.
    """
    file = folder / "config.json"
    raw = read_json_object(file) if file.is_file() else {}
    model_type = raw.get("model_type")
    if model_type is None or model_type in transformers.CONFIG_MAPPING:
        return None
    return transformers.PreTrainedConfig.from_dict({"tokenizer_class": raw.get("tokenizer_class")})
