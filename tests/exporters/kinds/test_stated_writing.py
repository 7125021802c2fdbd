"""Tokens that end a text: the folder's, unless the bundle states that its owner named them."""

import json
from pathlib import Path

import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.kinds.stated_writing import FILE, OWN_ENDS, own_ends, stated_fields
from rankport.runtime.bundle.bundle import Bundle
from support import checkpoints
from support.forms.adapters import lora


def test_the_folder_says_what_ends_a_text_unless_the_owner_did(generator_bundle: Bundle) -> None:
    manifest = generator_bundle.manifest
    assert own_ends(manifest) is None
    overridden = manifest.source.model_copy(update={"overrides": [OWN_ENDS]})
    assert own_ends(manifest.model_copy(update={"source": overridden})) == [2]


@pytest.mark.parametrize("named", ["other", "owner/model"])
def test_of_an_adapter_the_base_that_is_given_says_it_and_not_the_one_that_its_config_names(
    named: str, tmp_path: Path
) -> None:
    base = checkpoints.causal_lm(tmp_path / "base", "qwen2")
    other = checkpoints.causal_lm(tmp_path / "other", "qwen2")
    (base / FILE).write_text(json.dumps({"eos_token_id": 7}))
    (other / FILE).write_text(json.dumps({"eos_token_id": 9}))
    adapter = lora(tmp_path / "adapter", base).folder
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(other) if named == "other" else named
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert stated_fields(load_checkpoint(adapter, base=base)) == (FILE, {"eos_token_id": 7})
    (adapter / FILE).write_text(json.dumps({"eos_token_id": 8}))
    assert stated_fields(load_checkpoint(adapter, base=base)) == (FILE, {"eos_token_id": 8})
