"""Checkpoints of list rankers: what is read, and what is refused by the name of its field or tensor."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from pydantic import ValidationError

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel
from rankport.exporters.kinds.list_ranker.causal import require_causal
from rankport.exporters.kinds.list_ranker.template import read_part, require_tokens
from rankport.protos.errors import CheckpointError
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.lists.drafts import NUMBERED, raw_tokenizer
from support.lists.rankers import body, checkpoint, form, jina_checkpoint

Make = Callable[[Path], Path]


def edit_config(folder: Path, **changes: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def edit_tensors(folder: Path, **changes: torch.Tensor | None) -> Path:
    file = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(file) | {name: t for name, t in changes.items() if t is not None}
    kept = {name: tensor for name, tensor in tensors.items() if changes.get(name, tensor) is not None}
    safetensors.torch.save_file(kept, file, metadata={"format": "pt"})
    return folder


def test_a_saved_module_is_loaded_as_it_was(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "lists")
    source = load_checkpoint(folder)
    assert (source.head, source.hidden_size, source.model_type) == ("list", 24, "rankport-list-ranker")
    loaded = source.model
    assert isinstance(loaded, ListRankerModel)
    assert loaded.form == form()
    stored = safetensors.torch.load_file(folder / "model.safetensors")
    assert all(torch.equal(tensor, stored[name]) for name, tensor in loaded.state_dict().items())


def test_vectors_are_those_of_the_markers(tmp_path: Path) -> None:
    model = ListRankerModel(form(), body()).eval()
    ids, marks = torch.tensor([[5, 6, 7, 8], [9, 5, 0, 0]]), torch.tensor([[1, 3], [1, 0]])
    with torch.no_grad():
        states = model.model(input_ids=ids).last_hidden_state
        expected = model.projector(torch.stack([states[0, [1, 3]], states[1, [1, 0]]]))
        torch.testing.assert_close(model(ids, marks), expected)


def test_the_published_layout_says_its_widths_by_its_tensors(tmp_path: Path) -> None:
    loaded = load_checkpoint(jina_checkpoint(tmp_path / "jina")).model
    assert isinstance(loaded, ListRankerModel)
    assert [(layer.in_features, layer.out_features) for layer in loaded.form.projector] == [
        (24, 12),
        (12, 10),
    ]
    assert (loaded.form.max_item_tokens, loaded.form.max_query_tokens) == (2048, 512)
    longer = jina_checkpoint(
        tmp_path / "sliding", layer_types=["sliding_attention"], sliding_window=8, use_sliding_window=True
    )
    of_sliding = load_checkpoint(longer).model
    assert isinstance(of_sliding, ListRankerModel)
    assert (of_sliding.form.max_item_tokens, of_sliding.form.max_query_tokens) == (8192, 1024)


@pytest.mark.parametrize(
    ("make", "edit", "message"),
    [
        (jina_checkpoint, {"model_type": "llama"}, "JinaForRanking with model_type 'llama'"),
        (jina_checkpoint, {"projector_dim": 512}, "field 'projector_dim' is 512"),
        (
            jina_checkpoint,
            {"quantization_config": {"quant_method": "gptq"}},
            "quantization 'gptq' of a list ranker",
        ),
        (checkpoint, {"max_lists": 3}, "max_lists: unknown key"),
        (checkpoint, {"architectures": ["RankportListRanker", "Other"]}, "architectures: is"),
        (checkpoint, {"body": {"model_type": "qwen3", "auto_map": {"AutoModel": "a.B"}}}, "body.auto_map"),
    ],
)
def test_a_field_without_a_meaning_is_refused(
    make: Make, edit: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(edit_config(make(tmp_path / "lists"), **edit))


@pytest.mark.parametrize(
    ("make", "edit", "message"),
    [
        (jina_checkpoint, {"projector.2.weight": None}, "tensor 'projector.2.weight' is missing"),
        (jina_checkpoint, {"projector.0.bias": torch.zeros(12)}, "holds tensor 'projector.0.bias'"),
        (
            jina_checkpoint,
            {"projector.2.weight": torch.zeros(10, 11)},
            r"JinaForRanking: projector\[1\].in_features: is 11",
        ),
        (checkpoint, {"projector.0.weight": None}, "lacks tensor 'projector.0.weight'"),
        (checkpoint, {"model.norm.weight": torch.full((24,), torch.nan)}, "'model.norm.weight' holds NaN"),
    ],
)
def test_a_tensor_without_a_place_is_refused(
    make: Make, edit: dict[str, torch.Tensor | None], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(edit_tensors(make(tmp_path / "lists"), **edit))


LINEAR = {"in_features": 24, "out_features": 6, "activation": "identity"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query_marker": None}, "query_marker goes with a segment mark = query"),
        ({"projector": [LINEAR, LINEAR]}, r"projector\[1\].in_features: is 24, what comes in has 6"),
        (
            {"read_out": "logit", "query_marker": None, "template": NUMBERED | {"tail": []}},
            "projector: a logit is 1 wide",
        ),
        ({"max_items": 0}, "greater than 0"),
    ],
)
def test_a_config_does_not_contradict_itself(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        form(**fields)


def test_a_projector_must_take_the_states_of_the_body() -> None:
    with pytest.raises(
        CheckpointError, match=r"projector\[0\].in_features: is 23, states of the body are 24"
    ):
        ListRankerModel(form(projector=[LINEAR | {"in_features": 23}]), body())
    with pytest.raises(CheckpointError, match=r"projector\[0\].residual: is not supported"):
        ListRankerModel(form(projector=[LINEAR | {"residual": True}]), body())


def test_a_body_that_reads_both_ways_is_refused() -> None:
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    both = transformers.BertModel(transformers.BertConfig(vocab_size=30, **sizes)).eval()

    class Plain(torch.nn.Module):
        """BERT without the argument that it does not know."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.config = both, both.config

        def forward(self, inputs_embeds: torch.Tensor, use_cache: bool) -> Any:
            return self.inner(inputs_embeds=inputs_embeds)

        def get_input_embeddings(self) -> torch.nn.Module:
            return self.inner.get_input_embeddings()

    require_causal(ListRankerModel(form(), body()))
    with pytest.raises(CheckpointError, match="Plain reads both ways, what follows a marker too"):
        require_causal(ListRankerModel(form(), Plain()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"item_marker": "<none>"}, "marker '<none>' is no token"),
        (
            {"template": NUMBERED | {"between": "", "head": [{"special": ["<no>"]}]}},
            r"head\[0\]: '<no>' is no token",
        ),
        (
            {"template": NUMBERED | {"head": [{"text": "a <|im_end|>"}]}},
            r"head\[0\]: the text spells the token '<\|im_end\|>'",
        ),
    ],
)
def test_tokens_of_a_template_are_looked_up(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        require_tokens(form(**fields), Tokenizer(raw_tokenizer()))


def test_nothing_behind_the_last_marker_is_read() -> None:
    template = form().template
    assert template.tail[-1].text == " that was all"
    assert read_part(template).tail == template.tail[:-1]
    assert read_part(template).item == template.item


def test_an_example_in_the_docstring_is_a_config() -> None:
    module = ListRankerConfig.__module__
    text = __import__(module, fromlist=["__doc__"]).__doc__
    example = text[text.index("{") :].replace(', "hidden_size": 64, ...', ', "hidden_size": 64')
    assert ListRankerConfig.model_validate_json(example.replace("\n", " ")).max_items == 20
