"""Prompts of an export: bare or by file, and warnings of what is tokenized apart."""

import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, processors

from rankport.exporters.kinds.tagger.proof.owners_reading import OwnersTokenizer
from rankport.exporters.kinds.texts.pairs.frame import PairFrame
from rankport.exporters.options.prompts import ResolvedPrompt, framed_prompt, resolve_prompt
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Prompt, Segment, TokenizationReport
from support.text_tokenizers import saved, tokenizer_of


@pytest.mark.parametrize("named", [None, "bare"])
def test_bare_is_the_fields_and_the_item(tmp_path: Path, named: str | None) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(saved("byte-level"))
    resolved = resolve_prompt(named, file, ("prefix",))
    assert resolved.prompt == Prompt(prefix=[Segment(field="prefix")], item=[Segment(item=True)])
    assert resolved.warnings == ()


def test_a_frame_is_found_of_a_tokenizer_that_makes_nothing_of_letters(tmp_path: Path) -> None:
    """A vocabulary of numbers, without a token for what is unknown: its first token stood behind a text."""
    numbers = Tokenizer(models.BPE({"<s>": 0, "</s>": 1, "1": 2, "2": 3, "12": 4}, [("1", "2")]))
    numbers.add_special_tokens(["<s>", "</s>"])
    numbers.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    file = tmp_path / "tokenizer.json"
    numbers.save(str(file))
    before, after = Segment(special=["<s>"]), Segment(special=["</s>"])
    assert framed_prompt(file).prompt.item == [before, Segment(item=True), after]
    pair = PairFrame.of(file).prompt
    assert pair.prefix == [before, Segment(field="query"), after]
    assert pair.item == [Segment(item=True), after]
    assert OwnersTokenizer(file).frame() == ([0], [1])


def test_a_tokenizer_that_breaks_at_what_is_unknown_is_refused_with_the_fix(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel({"red": 0})).save(str(file))
    with pytest.raises(CheckpointError, match=r"has no token for what is unknown .*: add one \(unk_token"):
        resolve_prompt(None, file)


def test_a_field_among_the_items_segments_is_for_kinds_that_read_it(tmp_path: Path) -> None:
    file, prompt = tmp_path / "tokenizer.json", tmp_path / "prompt.toml"
    file.write_text(saved("byte-level"))
    prompt.write_text("[[item]]\nitem = true\n[[item]]\nfield = 'query'\n")
    assert resolve_prompt(prompt, file, item_fields=True).prompt.item_fields == ("query",)
    with pytest.raises(
        InvalidRequest, match=r"prompt\.toml: field 'query' stands in the item's segments, which only"
    ):
        resolve_prompt(prompt, file)


def prompt_of(*, joined: bool) -> Prompt:
    return Prompt(
        prefix=[
            Segment(text="Query: "),
            Segment(field="query", joined=joined),
            Segment(text=" Item: ", joined=joined),
        ],
        item=[Segment(item=True, joined=joined), Segment(text=" is it ")],
    )


def test_a_text_that_ends_in_a_space_before_a_value_is_warned_of() -> None:
    apart = ResolvedPrompt(prompt_of(joined=False), None, tokenizer_of("qwen"))
    assert [warning.split(" is tokenized apart from ")[0] for warning in apart.warnings] == [
        "prompt: prefix[0] text 'Query: ' ends in white space and",
        "prompt: prefix[2] text ' Item: ' ends in white space and",
    ]
    assert all("say joined = true at" in warning for warning in apart.warnings)
    assert "apart from field 'query'" in apart.warnings[0]
    assert "apart from the item" in apart.warnings[1]
    assert ResolvedPrompt(prompt_of(joined=True), None, tokenizer_of("qwen")).warnings == ()


def test_a_tokenizer_that_joins_few_words_to_a_space_is_warned_of_too() -> None:
    # " what" is a token of it, " a" is not.
    prompt = Prompt(
        prefix=[Segment(text="<Query>: "), Segment(field="query"), Segment(text=":")],
        item=[Segment(item=True)],
    )
    assert len(ResolvedPrompt(prompt, None, tokenizer_of("byte-level")).warnings) == 1


def test_where_the_tokenizer_drops_spaces_there_is_nothing_to_warn_of() -> None:
    assert ResolvedPrompt(prompt_of(joined=False), None, tokenizer_of("word-piece")).warnings == ()


def test_an_edge_that_no_cut_makes_exact_is_warned_of_with_numbers() -> None:
    prompt = Prompt(
        prefix=[Segment(field="query"), Segment(text="wha", joined=True)],
        item=[Segment(item=True, joined=True)],
    )
    (warning,) = ResolvedPrompt(prompt, None, tokenizer_of("qwen")).warnings
    found = re.search(r"for (\d+) of (\d+) tried values", warning)
    assert found is not None
    assert 0 < int(found[1]) < int(found[2])
    assert "end the prefix in white space or punctuation" in warning


def test_the_report_says_in_a_sentence_what_to_do() -> None:
    differs = TokenizationReport(samples=200, different=156, source="judged requests")
    assert differs.in_words.startswith("156 of 200 judged requests have other tokens here than their text")
    assert "say joined = true at the edges of the prompt, or use a preset" in differs.in_words
    equal = TokenizationReport(samples=200, different=0, source="judged requests")
    assert equal.in_words == "all of 200 judged requests have the tokens of their text tokenized at once"
