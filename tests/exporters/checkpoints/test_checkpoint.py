"""Checkpoints as they arrive: what is wrong with one is named, and nothing of it is lost in silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rankport.exporters.checkpoints.checkpoint import checkpoint_sha256, load_checkpoint
from rankport.exporters.kinds.item_encoder.limits import item_encoder_limits
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.output import output_form
from rankport.exporters.kinds.ranker.module import RankerModule, ReadOut
from rankport.exporters.kinds.ranker.options import RankerOptions
from rankport.exporters.kinds.ranker.read_out import resolve_labels
from rankport.exporters.kinds.ranker.survey import stated_windows, survey
from rankport.exporters.kinds.table import kind_named, options_of
from rankport.exporters.options.options import default_name
from rankport.exporters.options.requests_file import read_judged
from rankport.exporters.options.tolerance import Tolerance
from rankport.exporters.proof.compare import compare
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.prompt.tokenizer import Tokenizer
from support import checkpoints


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return checkpoints.causal_lm(tmp_path / "c", "qwen2", tokenizer=True)


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda c: c.rename(c.with_name("gone")), "is not a folder"),
    "no config": (lambda c: (c / "config.json").unlink(), "no config.json"),
    "pickle only": (
        lambda c: (c / "model.safetensors").rename(c / "pytorch_model.bin"),
        "pickled weights are never loaded",
    ),
    "truncated weights": (
        lambda c: (c / "model.safetensors").write_bytes(b"12345"),
        "cannot load .*model.safetensors.*copy it again",
    ),
    "missing tensor": (
        lambda c: edit_tensors(c, lambda t: t.pop("model.layers.1.mlp.up_proj.weight")),
        r"lacks tensor 'model.layers.1.mlp.up_proj.weight'",
    ),
    "tensor too many": (
        lambda c: edit_tensors(
            c, lambda t: t.update({"model.layers.0.self_attn.o_proj.bias": torch.ones(32)})
        ),
        "no place for",
    ),
    "wrong shape": (
        lambda c: edit_tensors(c, lambda t: t.update({"model.norm.weight": torch.ones(31)})),
        "model.norm.weight",
    ),
    "NaN": (
        lambda c: edit_tensors(c, lambda t: t["model.norm.weight"].fill_(float("nan"))),
        "'model.norm.weight' holds NaN",
    ),
    "quantized": (
        lambda c: edit_config(c, quantization_config={"quant_method": "hqq"}),
        "quantization method 'hqq' is not supported",
    ),
    "own code": (lambda c: edit_config(c, model_type="mine", auto_map={"AutoConfig": "x.Y"}), "auto_map"),
    "impossible widths": (lambda c: edit_config(c, num_key_value_heads=0), "cannot"),
    "encoder": (lambda c: edit_config(c, architectures=["BertModel"]), "--kind item-encoder"),
    "slow tokenizer": (
        lambda c: (c / "tokenizer.json").rename(c / "vocab.txt"),
        "vocab.txt and no tokenizer.json",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_checkpoint_is_refused_by_name(damage: str, checkpoint: Path) -> None:
    spoil, message = DAMAGE[damage]
    spoil(checkpoint)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(checkpoint)


def test_a_stray_head_beside_tied_embeddings_passes_only_if_it_is_equal(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "qwen2", tie_word_embeddings=True)
    equal = load_file(folder / "model.safetensors")["model.embed_tokens.weight"].clone()
    edit_tensors(folder, lambda t: t.update({"lm_head.weight": equal}))
    assert load_checkpoint(folder).head == "lm_head"
    edit_tensors(folder, lambda t: t.update({"lm_head.weight": equal + 1}))
    with pytest.raises(CheckpointError, match="different head"):
        load_checkpoint(folder)


def test_the_hash_covers_what_decides_the_answers_and_nothing_else(checkpoint: Path) -> None:
    before = checkpoint_sha256(checkpoint)
    (checkpoint / "trainer_state.json").write_text("{}")
    assert checkpoint_sha256(checkpoint) == before
    (checkpoint / "1_Pooling").mkdir()
    (checkpoint / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    assert checkpoint_sha256(checkpoint) != before


def test_a_model_that_looks_at_token_ids_again_is_refused(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    body: Any = loaded.model.base_model
    plain = body.forward

    def looks_again(input_ids: torch.Tensor | None = None, **arguments: Any) -> Any:
        output = plain(input_ids=input_ids, **arguments)
        if input_ids is not None:
            output.last_hidden_state = output.last_hidden_state + input_ids[..., None] * 0.01
        return output

    body.forward = looks_again
    with pytest.raises(CheckpointError, match="token ids beside their embeddings"):
        survey(RankerModule(loaded.model, ReadOut("lm_head", (1,)), embeddings=False))


def test_a_window_that_only_the_config_states_counts(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    loaded.model.config.sliding_window = 16  # type: ignore[union-attr]
    loaded.model.config.layer_types = None  # type: ignore[union-attr]
    assert stated_windows(loaded.model) == [16]


@pytest.mark.parametrize(
    ("labels", "message"),
    [(("yes", "zebra"), "'zebra' is not in the vocabulary"), (("yes", "data engineer"), "2 tokens")],
)
def test_a_label_must_be_one_known_token(labels: tuple[str, ...], message: str, checkpoint: Path) -> None:
    options = RankerOptions(labels=labels)
    tokenizer = Tokenizer.from_file(checkpoint / "tokenizer.json")
    with pytest.raises(InvalidRequest, match=message):
        resolve_labels(load_checkpoint(checkpoint), options, None, tokenizer)


def pooled(folder: Path, pooling: object, modules: object = None) -> Path:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if modules is not None:
        (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize(
    "pooling", [{"pooling_mode": "cls"}, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}]
)
def test_a_sentence_transformers_folder_brings_its_pooling(pooling: object, tmp_path: Path) -> None:
    modules = [
        {"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Normalize")
    ]
    folder = pooled(checkpoints.body(tmp_path / "c", "bert"), pooling, modules)
    made = output_form(load_checkpoint(folder, headless=True), ItemEncoderOptions())
    assert (made.pooling, made.normalize) == ("cls", True)


def test_a_module_that_the_graph_lacks_is_refused(tmp_path: Path) -> None:
    modules = [{"type": "sentence_transformers.models.Dense"}]
    folder = pooled(checkpoints.body(tmp_path / "c", "bert"), {"pooling_mode": "mean"}, modules)
    with pytest.raises(CheckpointError, match="Dense"):
        output_form(load_checkpoint(folder, headless=True), ItemEncoderOptions())


@pytest.mark.parametrize(("content", "message"), [("[]", "must be a dict"), ("{", "not readable JSON")])
def test_a_pooling_file_of_another_form_is_named(content: str, message: str, tmp_path: Path) -> None:
    folder = pooled(checkpoints.body(tmp_path / "c", "bert"), {})
    (folder / "1_Pooling" / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        output_form(load_checkpoint(folder, headless=True), ItemEncoderOptions())


def test_positions_that_start_behind_the_padding_id_shorten_the_limit(tmp_path: Path) -> None:
    folder = checkpoints.body(
        tmp_path / "c", "roberta", max_position_embeddings=66, pad_token_id=1, bos_token_id=0
    )
    source = load_checkpoint(folder, headless=True)
    assert item_encoder_limits(source, ItemEncoderOptions()).max_item_tokens == 64
    with pytest.raises(CheckpointError, match=r"65 exceed .* 64"):
        item_encoder_limits(source, ItemEncoderOptions(max_item_tokens=65))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"prefix": "a", "items": ["b"]}', "exactly the keys"),
        ('{"prefix": "a", "items": ["b"], "gains": [1, 2]}', "1 items but 2 gains"),
        ('{"prefix": "a", "items": ["b"], "gains": ["x"]}', "numbers from 0 on"),
        ('{"prefix": "a", "items": ["b"], "gains": [-1]}', "numbers from 0 on"),
        ('{"prefix": 5, "items": ["b"], "gains": [1]}', "not 5"),
        ('{"prefix": "a", "items": [{"id": "b"}], "gains": [1]}', "must be {"),
        ('{"prefix": "a", "items": ["b"], "gains": [0]}', "positive gain"),
    ],
)
def test_a_judged_line_that_cannot_be_used_is_named(line: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "judged.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(InvalidRequest, match=message):
        read_judged(file)


def test_a_judged_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    for name in ("latin.jsonl", "absent.jsonl"):
        with pytest.raises(InvalidRequest, match=name):
            read_judged(tmp_path / name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_tolerance_is_a_number_from_0_on(value: float) -> None:
    with pytest.raises(InvalidRequest, match="--max-abs-error"):
        Tolerance(max_abs_error=value)


def test_options_are_checked_before_any_work() -> None:
    ranker = kind_named("ranker")
    for options, message in (
        ({"name": "bad name"}, "--name"),
        ({"max_item_tokens": 4.5}, "--max-item-tokens"),
        ({"store": "x"}, "--judged"),
    ):
        with pytest.raises(InvalidRequest, match=message):
            options_of(ranker, options)  # type: ignore[arg-type]
    assert options_of(ranker, {"labels": "yes, no"}).labels == ("yes", "no")  # type: ignore[attr-defined]
    assert default_name(Path("ünï.bundle")) == "n-"


def test_identical_items_do_not_cost_rank_agreement() -> None:
    import numpy as np

    expected = np.array([[1.0], [1.0], [2.0]], np.float32)
    actual = np.array([[1.0], [1.0 + 1e-7], [2.0]], np.float32)
    assert compare("mode", [expected], [actual]).kendall_tau == 1.0
    swapped = np.array([[2.0], [2.0], [1.0]], np.float32)
    assert compare("mode", [expected], [swapped]).kendall_tau < 0
