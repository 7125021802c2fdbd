"""Texts of a form: whatever the model would write, what it writes is JSON by the schema, or matches the pattern."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing

import numpy as np
import pytest
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers

from rankport.protos.errors import InvalidRequest
from rankport.protos.generation import Sampling
from rankport.runtime.bundle.manifest import Generation
from rankport.runtime.kinds.generator.grammars.grammars import Grammars
from rankport.runtime.kinds.generator.grammars.matcher import GrammarSampler
from rankport.runtime.kinds.generator.texts.sampler import SamplingRules
from rankport.runtime.prompt.tokenizer import Tokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "fit": {"enum": ["low", "medium", "high"]},
        "years": {"type": "integer", "minimum": 0, "maximum": 60},
        "reason": {"type": "string", "maxLength": 30},
    },
    "required": ["fit", "years", "reason"],
    "additionalProperties": False,
}
MERGED = ["lo", "low", '{"', '": ', "medium", "high", "</s>"]
STOP = 256 + len(MERGED) - 1


def byte_level() -> Tokenizer:
    """Makes a tokenizer of all bytes and a few longer tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate([*alphabet, *MERGED])}
    vocabulary["\u0120"] = vocabulary.pop("\u0120")
    inner = Inner(
        models.BPE({token.replace(" ", "\u0120"): place for token, place in vocabulary.items()}, [])
    )
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["</s>"])
    return Tokenizer(inner)


@pytest.fixture(scope="module")
def grammars() -> Iterator[Grammars]:
    # a table longer than the tokenizer, as checkpoints have it
    with closing(Grammars(byte_level(), STOP + 9, [STOP])) as opened:
        yield opened


def written(grammars: Grammars, sampling: Sampling, rng: np.random.Generator, most: int = 400) -> str:
    """Writes by random logits until the text is whole."""
    matcher = grammars.matcher(sampling)
    assert matcher is not None
    rules = SamplingRules.of(sampling, Generation(stop_ids=[STOP]))
    sampler, ids = GrammarSampler(rules, 0, [], matcher), list[int]()
    while not sampler.ended and len(ids) < most:
        ids.append(sampler.draw(rng.normal(size=STOP + 9).astype(np.float32)))
    assert sampler.ended
    return byte_level().text_of(ids[:-1] if ids[-1] == STOP else ids)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_written_is_json_by_the_schema(grammars: Grammars, temperature: float) -> None:
    sampling = Sampling(json_schema=SCHEMA, temperature=temperature, top_k=40, repetition_penalty=1.2)
    for seed in range(8):
        text = written(grammars, sampling, np.random.default_rng(seed))
        said = json.loads(text)
        assert list(said) == ["fit", "years", "reason"]
        assert said["fit"] in ("low", "medium", "high")
        assert 0 <= said["years"] <= 60
        assert len(said["reason"]) <= 30
        assert text.startswith('{"fit": "')  # as json.dumps writes it


def test_what_is_written_matches_the_pattern(grammars: Grammars) -> None:
    pattern = r"[A-Z][a-z]{2,6} [0-9]{4}(-[0-9]{2})?"
    for seed in range(8):
        text = written(grammars, Sampling(regex=pattern, temperature=1.0), np.random.default_rng(seed))
        assert re.fullmatch(pattern, text, re.ASCII), text


def test_the_model_chooses_of_what_may_come(grammars: Grammars) -> None:
    """Takes the likeliest of the tokens that the schema allows."""
    tokenizer, ids = byte_level(), list[int]()
    matcher = grammars.matcher(Sampling(json_schema='{"enum": ["low", "medium", "high"]}'))
    assert matcher is not None
    sampler = GrammarSampler(SamplingRules.of(Sampling(), Generation(stop_ids=[STOP])), None, [], matcher)
    liked = logits_of(tokenizer, '"medium"')
    while not sampler.ended:
        ids.append(sampler.draw(liked))
    assert tokenizer.text_of(ids) == '"medium"'


@pytest.mark.parametrize(("pattern", "tokens"), [("ab", 2), ("ab*", 5)])
def test_least_tokens_put_off_an_end_that_a_form_allows(
    grammars: Grammars, pattern: str, tokens: int
) -> None:
    """One that it asks for comes: nothing else may."""
    matcher = grammars.matcher(Sampling(regex=pattern))
    assert matcher is not None
    rules = SamplingRules.of(Sampling(temperature=0.0), Generation(stop_ids=[STOP]), (STOP,), 5)
    sampler, ids, liked = (
        GrammarSampler(rules, None, [], matcher),
        list[int](),
        np.zeros(STOP + 9, np.float32),
    )
    liked[STOP] = 9.0
    while not sampler.ended and STOP not in ids:
        ids.append(sampler.draw(liked))
    assert len([token for token in ids if token != STOP]) == tokens


@pytest.mark.parametrize(
    ("sampling", "told"),
    [
        ({"json_schema": {"type": "objekt"}}, "json_schema cannot be followed: .*objekt"),
        ({"json_schema": "{"}, "json_schema cannot be followed"),
        ({"json_schema": {"$ref": "http://x/y"}}, "json_schema cannot be followed: .*http://x/y"),
        ({"json_schema": {"type": "object", "unevaluatedProperties": False}}, "unevaluatedProperties"),
        ({"regex": "(ab"}, "regex cannot be followed: .*unclosed group"),
    ],
)
def test_what_cannot_be_followed_is_told(grammars: Grammars, sampling: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told) as failure:
        grammars.matcher(Sampling(**sampling))  # type: ignore[arg-type]
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("sampling", "told"),
    [
        ({"json_schema": SCHEMA, "regex": "a"}, "json_schema and regex are both given"),
        ({"json_schema": SCHEMA, "stop": ("x",)}, "stop ends a text before it is what json_schema says"),
        ({"regex": ""}, "regex is ''"),
        ({"regex": "a" * 65_537}, "regex has 65537 characters: give at most 65536"),
        ({"json_schema": 3}, "json_schema is 3"),
        ({"json_schema": {"minimum": float("nan")}}, "json_schema is no JSON"),
    ],
)
def test_what_no_text_can_be_is_told(sampling: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        Sampling(**sampling)  # type: ignore[arg-type]


def test_a_tokenizer_that_the_library_has_no_way_with_is_told() -> None:
    inner = Inner(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    inner.decoder = decoders.WordPiece()
    for tokenizer, told in ((Tokenizer(inner), "llguidance reads byte-level"), (None, "has no tokenizer")):
        with pytest.raises(InvalidRequest, match=told):
            Grammars(tokenizer, 2, [1]).matcher(Sampling(regex="a"))


def logits_of(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """Gives logits that like the tokens of a text, longer ones more."""
    logits = np.zeros(STOP + 9, np.float32)
    names: Sequence[str] = [text, "medium"]
    for name in names:
        for token in tokenizer.encode_batch([name])[0].tolist():
            logits[token] = 1.0
    logits[tokenizer.token_id("medium") or 0] = 2.0
    return logits
