"""`Markers`: no text keeps or becomes one, whatever its kind in the tokenizer."""

import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from rankport.protos.columns import ItemColumns
from rankport.runtime.bundle.sections.lists import Marker
from rankport.runtime.prompt.lists.list_prompt import ListPrompt
from rankport.runtime.prompt.markers import Markers
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.lists.drafts import ITEM, QUERY, SPECIAL, draft, lists_of, tokenizer_json

MARKERS = Markers.of(lists_of())
PIECES = st.lists(st.sampled_from([ITEM, QUERY, ITEM[:4], ITEM[4:], QUERY[:6], QUERY[6:], "a", "<", "|>"]))


@given(PIECES)
def test_no_marker_survives_in_whatever_it_was_hidden(pieces: list[str]) -> None:
    text = MARKERS.cleaned("".join(pieces))
    assert ITEM not in text
    assert QUERY not in text


def test_markers_that_are_hidden_in_each_other_ever_so_deep_are_left_out() -> None:
    depth = 20_000
    assert MARKERS.cleaned(f"a{ITEM[:7] * depth}{QUERY}{ITEM[7:] * depth}b") == "ab"


@given(st.text(alphabet="ab <|>", max_size=20))
def test_a_text_without_markers_stays(text: str) -> None:
    assert MARKERS.cleaned(text) == text


def test_markers_that_are_ordinary_added_tokens_do_not_come_of_text_either() -> None:
    saved = tokenizer_json(SPECIAL[:2], added=(ITEM, QUERY))
    known = tokenizers.Tokenizer.from_str(saved)
    ids = {name: known.token_to_id(name) for name in (ITEM, QUERY)}
    lists = lists_of(
        item_marker=Marker(token=ITEM, id=ids[ITEM]), query_marker=Marker(token=QUERY, id=ids[QUERY])
    )
    prompt = ListPrompt(draft(lists), Tokenizer(known))
    made = prompt.encode("red", ItemColumns.of([f"we{ITEM}lder", f"{QUERY}baker"]))
    (run,) = made.runs
    assert [int((run.ids == ids[name]).sum()) for name in (ITEM, QUERY)] == [2, 1]
