"""Fields of a decoder's folder that speak of writing: generation_config.json, or config.json where there is none."""

import json
from pathlib import Path

import pytest

from rankport.exporters.checkpoints.checkpoint import Checkpoint, load_checkpoint
from rankport.exporters.kinds.generator.stated import stated_generation
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import Generation
from support import checkpoints

SAID = {
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.9,
    "min_p": 0.15,
    "repetition_penalty": 1.3,
    "min_new_tokens": 3,
    "eos_token_id": [4, 5],
}


@pytest.fixture
def source(tmp_path: Path) -> Checkpoint:
    checkpoint = load_checkpoint(checkpoints.causal_lm(tmp_path / "c", "llama"))
    (checkpoint.path / "generation_config.json").unlink(missing_ok=True)
    return checkpoint


def say(source: Checkpoint, fields: dict[str, object]) -> None:
    file = source.path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_config_json_speaks_where_no_generation_config_does(source: Checkpoint) -> None:
    """Transformers reads old folders so."""
    say(source, SAID)
    drawn = {"temperature": 0.7, "top_p": 0.9, "top_k": 50, "min_p": 0.15, "repetition_penalty": 1.3}
    assert stated_generation(source, None) == Generation(stop_ids=[4, 5], min_tokens=3, **drawn)
    (source.path / "generation_config.json").write_text('{"eos_token_id": 6}')
    assert stated_generation(source, None) == Generation(stop_ids=[6])


def test_a_count_that_is_null_is_that_of_transformers(source: Checkpoint) -> None:
    """`generate` puts its own default, 50, in the place of null; 0 says all tokens."""
    for said, top_k in ((None, 50), (0, 0)):
        fields = {"eos_token_id": 6, "do_sample": True, "top_k": said}
        (source.path / "generation_config.json").write_text(json.dumps(fields))
        assert stated_generation(source, None) == Generation(stop_ids=[6], temperature=1.0, top_k=top_k)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"num_beams": 3}, "num_beams is 3"),
        ({"num_beams": 3, "length_penalty": 2.0, "eos_token_id": 5}, "num_beams is 3"),
        ({"do_sample": True, "typical_p": 0.9}, "typical_p is 0.9"),
        ({"min_length": 7}, "min_length is 7"),  # of prompt and text together
        ({"sequence_bias": [[[7], 1.0]]}, r"sequence_bias is \[\[\[7\], 1.0\]\]"),
        ({"suppress_tokens": [7]}, r"suppress_tokens is \[7\]"),
    ],
)
def test_another_way_of_writing_is_refused_by_its_file(
    fields: dict[str, object], named: str, source: Checkpoint
) -> None:
    say(source, fields)
    with pytest.raises(CheckpointError, match=rf"^config\.json: {named}, a way of writing"):
        stated_generation(source, None)


def test_fields_that_change_no_text_of_such_a_model_are_taken(source: Checkpoint) -> None:
    """Drafts of an assistant are checked by the model; beams' fields are of beams, and cut-offs of draws."""
    drafts = {
        "num_assistant_tokens": 20,
        "assistant_confidence_threshold": 0.4,
        "prompt_lookup_num_tokens": 3,
    }
    of_beams = {"length_penalty": 2.0, "early_stopping": True, "num_beams": 1}
    of_draws = {"typical_p": 0.9, "epsilon_cutoff": 1e-3, "do_sample": False}
    neutral = {"guidance_scale": 1, "suppress_tokens": [], "use_mtp": False, "token_healing": False}
    fields = {"eos_token_id": 6, **drafts, **of_beams, **of_draws, **neutral}
    (source.path / "generation_config.json").write_text(json.dumps(fields))
    assert stated_generation(source, None) == Generation(stop_ids=[6])


def test_the_start_of_a_decoder_of_two_changes_no_text_of_one(source: Checkpoint) -> None:
    say(source, {"decoder_start_token_id": 2})
    assert stated_generation(source, [5]) == Generation(stop_ids=[5])
