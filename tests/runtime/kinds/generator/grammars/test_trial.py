"""Grammars that compile for ever are refused within a bound, and those that are known are compiled once."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from llguidance import LLMatcher

from rankport.protos.errors import BackendError, InvalidRequest, Unavailable
from rankport.protos.generation import Sampling
from rankport.runtime.kinds.generator.grammars.grammars import KEPT, Grammars
from rankport.runtime.kinds.generator.grammars.trial import GrammarTrial
from runtime.kinds.generator.grammars.test_grammars import STOP, byte_level


def endless(patterns: int = 24) -> dict[str, object]:
    """Makes a schema of a few hundred characters whose patterns are intersected: twice the time for each more."""
    return {"type": "string", "allOf": [{"pattern": f".*a.{{{place}}}"} for place in range(patterns)]}


def grammar(schema: object) -> str:
    return str(LLMatcher.grammar_from_json_schema(json.dumps(schema)))


@pytest.fixture(scope="module")
def trial() -> Iterator[GrammarTrial]:
    with closing(GrammarTrial(processor_s=0.1)) as opened:
        yield opened


def test_what_compiles_for_ever_is_refused_and_the_next_grammar_is_tried_anew(trial: GrammarTrial) -> None:
    assert trial.fault(grammar({"type": "string"})) == ""
    assert trial.fault(grammar(endless())).startswith("it takes more than 0.1 s to compile: ask for fewer")
    assert trial.fault(grammar({"type": "integer"})) == ""
    assert "objekt" in trial.fault(grammar({"type": "objekt"}))


def test_what_takes_more_memory_than_it_may_is_refused() -> None:
    with closing(GrammarTrial(memory_bytes=1 << 20)) as small:
        wide = {"enum": [f"value number {place}" for place in range(20_000)]}
        assert small.fault(grammar(wide)).startswith("it takes more than 1 MiB to compile: ask for fewer")


def test_a_grammar_whose_trial_is_killed_is_not_told_to_be_at_fault() -> None:
    told = r"was killed: .* no processor for 0 s: ask again"
    with (
        closing(GrammarTrial(processor_s=600, longest_s=0.0)) as trial,
        pytest.raises(BackendError, match=told),
    ):
        trial.fault(grammar(endless()))


def test_a_trial_under_way_ends_with_its_owner() -> None:
    trial, told = GrammarTrial(processor_s=600), list[Exception]()

    def ask() -> None:
        try:
            trial.fault(grammar(endless()))
        except Unavailable as error:
            told.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    trial.close()
    asking.join(30)
    assert not asking.is_alive()
    assert "is closed" in str(told)


def test_each_grammar_is_compiled_once_and_a_refused_one_is_known_too() -> None:
    with closing(Grammars(byte_level(), STOP + 9, [STOP])) as grammars:
        asked = [Sampling(json_schema={"type": "integer"}), Sampling(json_schema={"type": "objekt"})]
        for sampling, refused in zip(asked, (False, True), strict=True):
            assert grammars.takes_long(sampling)
            for _ in range(2):
                if refused:
                    with pytest.raises(InvalidRequest, match=r"json_schema cannot be followed: .*objekt"):
                        grammars.matcher(sampling)
                else:
                    assert grammars.matcher(sampling) is not None
                assert not grammars.takes_long(sampling)
        for number in range(KEPT):
            grammars.matcher(Sampling(regex=f"{number}"))
        assert grammars.takes_long(asked[0])


def test_texts_of_a_kept_grammar_do_not_go_on_with_each_other() -> None:
    with closing(Grammars(byte_level(), STOP + 9, [STOP])) as grammars:
        first = grammars.matcher(Sampling(regex="lo[wx]"))
        second = grammars.matcher(Sampling(regex="lo[wx]"))
        assert first is not None
        assert second is not None
        begins = first.allowed(STOP + 9)
        first.take(byte_level().token_id("lo") or 0)
        assert (second.allowed(STOP + 9) == begins).all()
        assert not (first.allowed(STOP + 9) == begins).all()
