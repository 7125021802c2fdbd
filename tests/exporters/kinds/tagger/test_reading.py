"""Texts are read as transformers reads them: ids, and the characters of words and tokens, however they are spelled."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from rankport.exporters.kinds.tagger.proof.owners_reading import OwnersTokenizer, Text
from rankport.exporters.kinds.tagger.proof.texts import AWKWARD
from rankport.protos.tagging import TagTexts
from rankport.runtime.kinds.tagger.units import units_of
from rankport.runtime.prompt.tokenizer import PlacedTokens, Tokenizer
from support.text_tokenizers import KINDS, saved


def roberta() -> str:
    """Bytes, a space before a text, places trimmed by the post-processor."""
    content = json.loads(saved("byte-level"))
    content["post_processor"] = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    }
    content["pre_tokenizer"]["add_prefix_space"] = True
    return json.dumps(content)


def compatible() -> str:
    """Characters that become several, and lower case."""
    content = json.loads(saved("word-piece"))
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]}
    return json.dumps(content)


def tokens_of(tokenizer: Tokenizer, texts: TagTexts) -> PlacedTokens:
    if texts.words is None:
        return tokenizer.encode_places(texts.texts)
    assert texts.word_offsets is not None
    edges = texts.word_offsets.tolist()
    return tokenizer.encode_word_places([texts.words[start:end] for start, end in pairwise(edges)])


@pytest.mark.parametrize("kind", [*KINDS, "roberta", "nfkc"])
@pytest.mark.parametrize("by_word", [True, False], ids=["words", "tokens"])
def test_units_are_where_transformers_has_them(kind: str, by_word: bool, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    made = {"roberta": roberta, "nfkc": compatible}
    file.write_text(made[kind]() if kind in made else saved(kind))
    owner, tokenizer = OwnersTokenizer(file), Tokenizer.from_file(file)
    given: list[Text] = [[*text.split(), "", "b c", " d "] for text in AWKWARD]
    for texts in (list(AWKWARD), given):
        ours = TagTexts.of(texts)
        tokens = tokens_of(tokenizer, ours)
        units = units_of(ours, tokens, by_word=by_word)
        for index, text in enumerate(texts):
            expected = owner.read(text, by_word=by_word)
            first, last = units.offsets[index : index + 2]
            assert tokens.ids.run(index).tolist() == expected.ids
            assert [
                (start, end)
                for start, end in zip(
                    units.starts[first:last].tolist(), units.ends[first:last].tolist(), strict=True
                )
            ] == [(unit.start, unit.end) for unit in expected.units]
            assert ours.texts[index] == expected.characters
