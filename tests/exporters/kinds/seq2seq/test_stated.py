"""Fields of a folder that speak of writing become the bundle's rules, or are refused by name."""

import json

import pytest
from transformers import AutoConfig, GenerationConfig

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.kinds.seq2seq.stated import stated_generation, stated_max_tokens
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Decoding, Generation
from support.reading import seq2seq

SAID = {
    "decoder_start_token_id": 3,
    "eos_token_id": [2, 5],
    "forced_bos_token_id": 4,
    "forced_eos_token_id": 2,
    "min_length": 6,
    "max_length": 20,
    "no_repeat_ngram_size": 3,
    "num_beams": 4,
    "num_return_sequences": 2,
    "length_penalty": 2.0,
    "early_stopping": True,
}
DECODING = Decoding(
    start_id=3,
    first_id=4,
    last_id=2,
    min_tokens=5,
    no_repeat_ngram=3,
    beams=4,
    length_penalty=2.0,
    early_stopping=True,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(seq2seq.bart(tmp_path_factory.mktemp("stated") / "c"))


def say(source: Checkpoint, fields: dict[str, object] | None) -> None:
    file = source.path / "generation_config.json"
    file.unlink(missing_ok=True)
    if fields is not None:
        file.write_text(json.dumps(fields))


def test_every_field_is_honoured(source: Checkpoint) -> None:
    say(source, SAID)
    assert stated_generation(source, None) == Generation(stop_ids=[2, 5], decoding=DECODING)
    assert stated_max_tokens(source) == 19
    assert stated_generation(source, [9]).stop_ids == [9]


def test_config_json_speaks_where_no_generation_config_does(source: Checkpoint) -> None:
    config = source.path / "config.json"
    before = config.read_text()
    say(source, None)
    config.write_text(json.dumps(json.loads(before) | SAID))
    try:
        assert stated_generation(source, None) == Generation(stop_ids=[2, 5], decoding=DECODING)
    finally:
        config.write_text(before)


@pytest.mark.parametrize(
    ("said", "first"), [({}, 6), ({"forced_bos_token_id": 4}, 6), ({"bos_token_id": None}, None)]
)
def test_old_files_say_that_a_text_begins_with_its_first_token(
    source: Checkpoint, said: dict[str, object], first: int | None
) -> None:
    config = source.path / "config.json"
    before = config.read_text()
    old = {"force_bos_token_to_be_generated": True, "bos_token_id": 6, **said}
    say(source, None)
    config.write_text(json.dumps(json.loads(before) | old))
    theirs = GenerationConfig.from_model_config(AutoConfig.from_pretrained(source.path)).forced_bos_token_id
    try:
        stated = load_checkpoint(source.path)
        for generation, expected in ((stated_generation(stated, None), first), (_beside(stated), None)):
            assert generation.decoding is not None
            assert generation.decoding.first_id == expected
        assert first == theirs
    finally:
        config.write_text(before)


def _beside(source: Checkpoint) -> Generation:
    """Reads a folder whose generation_config.json counts, and says nothing of it."""
    say(source, {})
    return stated_generation(source, None)


def test_where_nothing_is_said_a_text_is_greedy_and_begins_as_the_config_says(source: Checkpoint) -> None:
    say(source, {})
    end = source.model.config.eos_token_id  # type: ignore[union-attr]
    assert stated_generation(source, None) == Generation(stop_ids=[end], decoding=Decoding(start_id=end))  # type: ignore[list-item, arg-type]
    assert stated_max_tokens(source) is None


def test_the_later_of_two_least_lengths_counts_and_tokens_beat_lengths(source: Checkpoint) -> None:
    say(source, {"min_length": 4, "min_new_tokens": 7, "max_length": 30, "max_new_tokens": 11})
    decoding = stated_generation(source, None).decoding
    assert decoding is not None
    assert (decoding.min_tokens, stated_max_tokens(source)) == (7, 11)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"encoder_no_repeat_ngram_size": 2}, "encoder_no_repeat_ngram_size is 2, a way of writing"),
        ({"bad_words_ids": [[4]]}, r"bad_words_ids is \[\[4\]\], a way of writing"),
        ({"diversity_penalty": 0.5}, "diversity_penalty is 0.5, a way of writing"),
        ({"do_sample": True, "num_beams": 4}, "do_sample with num_beams 4"),
        ({"forced_eos_token_id": [2, 3]}, r"forced_eos_token_id is \[2, 3\]: bundles put one token there"),
    ],
)
def test_another_way_of_writing_is_refused_by_name(
    source: Checkpoint, fields: dict[str, object], told: str
) -> None:
    say(source, fields)
    with pytest.raises(CheckpointError, match=f"generation_config.json: {told}"):
        stated_generation(source, None)
