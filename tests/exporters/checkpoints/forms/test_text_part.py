"""Checkpoints of several modalities: the text part stays, towers are left out by name, a text's logits are the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Emu3ForCausalLM,
    PreTrainedModel,
)

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.forms.text_part import keep_text_part
from rankport.exporters.checkpoints.stated import StatedModel, head_of
from rankport.exporters.kinds.decoders.module import DecoderModule
from rankport.exporters.kinds.decoders.survey import survey
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.exporters.kinds.ranker.decoders import is_decoder
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.see_and_read import TEXT, VISION, see_and_read

IDS = torch.tensor([[5, 9, 17, 40]])


@pytest.mark.parametrize("family", ["gemma3", "qwen3_vl", "mistral3"])
def test_the_text_part_of_a_model_that_sees_is_what_the_whole_reads_a_text_with(
    family: str, tmp_path: Path
) -> None:
    folder = see_and_read(tmp_path, family)
    whole = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert is_decoder(StatedModel.read(folder))
    loaded = load_checkpoint(folder, head="labelled")
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(input_ids=IDS).logits, whole(input_ids=IDS).logits)
    assert not [name for name in loaded.model.state_dict() if "vis" in name or "projector" in name]
    towers = [note for note in loaded.notes if note.endswith("which no text reaches")]
    assert sum("vis" in note for note in towers) == 1
    assert loaded.parameters < sum(part.numel() for part in whole.parameters())
    facts = survey(DecoderModule(loaded.model, ReadOut("lm_head", (9, 17)), embeddings=True))
    assert len(facts.layers) == TEXT["num_hidden_layers"]


def test_a_model_that_asks_for_a_part_it_does_not_run_stays_whole(tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(see_and_read(tmp_path, "gemma3")).eval()
    body: Any = model.base_model
    plain = body.forward

    def asks(*arguments: Any, **more: Any) -> Any:
        assert body.vision_tower is not None
        return plain(*arguments, **more)

    body.forward = asks
    assert keep_text_part(model) == ()
    assert body.vision_tower is not None


def test_experts_that_no_token_went_to_stay(tmp_path: Path) -> None:
    widths = {"num_experts": 16, "num_experts_per_tok": 1, "moe_intermediate_size": 8, "head_dim": 8}
    folder = see_and_read(tmp_path, "qwen3_vl_moe", **widths)
    model = load_checkpoint(folder).model
    assert isinstance(model, PreTrainedModel)
    experts = [part for name, part in model.named_modules() if name.endswith("experts")]
    assert len(experts) == TEXT["num_hidden_layers"]


def test_a_text_model_alone_is_left_as_it_is(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoints.causal_lm(tmp_path, "llama"))
    assert keep_text_part(model) == ()


def test_of_llama_4_that_sees_the_text_class_is_loaded_and_towers_are_passed_over(tmp_path: Path) -> None:
    text = {"intermediate_size_mlp": 48, "num_local_experts": 2, "head_dim": 8}
    vision = {
        "hidden_size": 32,
        "vision_output_dim": 32,
        "projector_input_dim": 32,
        "projector_output_dim": 32,
    }
    folder = see_and_read(tmp_path, "llama4", vision={**VISION, **vision}, **text)
    loaded = load_checkpoint(folder)
    assert type(loaded.model).__name__ == "Llama4ForCausalLM"
    assert any(note.startswith("left out: vision_model,") for note in loaded.notes)
    stray = tmp_path / "model.safetensors"
    save_file({**load_file(stray), "language_model.model.odd.weight": torch.ones(2)}, stray, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"holds tensor '.*odd\.weight'"):
        load_checkpoint(folder)


def test_the_class_that_the_config_names_is_loaded_where_there_is_no_auto_class(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    config = AutoConfig.for_model("emu3_text_model", **TEXT, vocab_size=checkpoints.VOCABULARY)
    Emu3ForCausalLM(config).save_pretrained(folder)
    assert type(load_checkpoint(folder).model).__name__ == "Emu3ForCausalLM"
    raw = json.loads((folder / "config.json").read_text()) | {"architectures": ["OtherForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match=r"no \.\.\.ForCausalLM of model_type 'emu3_text_model'"):
        load_checkpoint(folder)


def test_classes_that_write_are_known_whatever_they_are_called() -> None:
    names = ("Qwen3VLForConditionalGeneration", "BertGenerationDecoder", "ReformerModelWithLMHead")
    assert [head_of(name) for name in names] == ["lm_head"] * 3
    assert head_of("T5ForConditionalGeneration") == "seq2seq_lm_head"
