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
    assert stated_generation(source, None) == Generation(stop_ids=[4, 5], **drawn)
    (source.path / "generation_config.json").write_text('{"eos_token_id": 6}')
    assert stated_generation(source, None) == Generation(stop_ids=[6])


def test_a_count_that_is_null_is_that_of_transformers(source: Checkpoint) -> None:
    """`generate` puts its own default, 50, in the place of null; 0 says all tokens."""
    for said, top_k in ((None, 50), (0, 0)):
        fields = {"eos_token_id": 6, "do_sample": True, "top_k": said}
        (source.path / "generation_config.json").write_text(json.dumps(fields))
        assert stated_generation(source, None) == Generation(stop_ids=[6], temperature=1.0, top_k=top_k)


def test_another_way_of_writing_is_refused_by_its_file(source: Checkpoint) -> None:
    say(source, {"num_beams": 3})
    with pytest.raises(CheckpointError, match=r"^config\.json: num_beams is 3, a way of writing"):
        stated_generation(source, None)


def test_the_start_of_a_decoder_of_two_changes_no_text_of_one(source: Checkpoint) -> None:
    say(source, {"decoder_start_token_id": 2})
    assert stated_generation(source, [5]) == Generation(stop_ids=[5])
