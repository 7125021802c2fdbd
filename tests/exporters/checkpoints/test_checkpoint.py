"""Checkpoints as they arrive: what is wrong with one is named, and nothing of it is lost in silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rankport.exporters.checkpoints.checkpoint import checkpoint_sha256, load_checkpoint
from rankport.protos.errors import CheckpointError
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


def rewrite(folder: Path, old: str, new: str) -> None:
    """Puts text into config.json as it stands, once."""
    config = folder / "config.json"
    config.write_text(config.read_text().replace(old, new, 1))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda c: c.rename(c.with_name("gone")), "is not a folder"),
    "no config": (lambda c: (c / "config.json").unlink(), "no config.json"),
    "where a training left its checkpoints": (
        lambda c: (
            [(c / name).mkdir() for name in ("checkpoint-90", "checkpoint-100")]
            and (c / "config.json").unlink()
        ),
        "folder of checkpoints of a training: give one, '.*/checkpoint-100'",
    ),
    "pickle only": (
        lambda c: (c / "model.safetensors").rename(c / "pytorch_model.bin"),
        r"pickled weights \(pytorch_model.bin\) are never loaded, convert them with save_pretrained",
    ),
    "llama.cpp's file only": (
        lambda c: (c / "model.safetensors").rename(c / "model-q4.gguf"),
        "model-q4.gguf is llama.cpp's: give the checkpoint that it was converted from",
    ),
    "no weights": (
        lambda c: (c / "model.safetensors").unlink(),
        "has no model.safetensors and no model.safetensors.index.json: copy its weights here too",
    ),
    "weights of another name": (
        lambda c: (c / "model.safetensors").rename(c / "gptq_model-4bit-128g.safetensors"),
        "if 'gptq_model-4bit-128g.safetensors' holds them all, rename it",
    ),
    "an adapter's config in a whole model": (
        lambda c: (c / "adapter_config.json").write_text('{"peft_type": "LORA"}'),
        "holds model.safetensors and adapter_config.json: is it a whole model or an adapter",
    ),
    "a misspelled field": (
        lambda c: edit_config(c, rms_norm_epsilon=1e-5),
        r"config.json: field 'rms_norm_epsilon' .*is 'rms_norm_eps' meant",
    ),
    "a field that comes twice": (
        lambda c: rewrite(c, "{", '{"hidden_act": "relu", '),
        "config.json is not readable JSON: key 'hidden_act' is given twice in one object",
    ),
    "a field that is NaN": (
        lambda c: edit_config(c, rms_norm_eps=float("nan")),
        "config.json is not readable JSON: NaN is no value of a field",
    ),
    "a field of another type": (
        lambda c: edit_config(c, hidden_size="32"),
        "cannot read .*config.json: Validation error for field 'hidden_size': TypeError: Field 'hidden_size' expected",
    ),
    "an architecture that is no list": (
        lambda c: edit_config(c, architectures="LlamaForCausalLM"),
        "config.json: architectures is 'LlamaForCausalLM', must be a list of names of classes",
    ),
    "no architecture": (
        lambda c: edit_config(c, architectures=None),
        "config.json: architectures names no class with a head that answers",
    ),
    "an architecture of nobody": (
        lambda c: edit_config(c, architectures=["MyModel"]),
        "config.json: architectures is 'MyModel', no class with a head that answers",
    ),
    "a method of quantization that is not said": (
        lambda c: edit_config(c, quantization_config={}),
        r"\(there are: compressed-tensors, gptq, awq, auto-round, fp8, bitsandbytes, hqq, mxfp4, modelopt, torchao\)",
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
        lambda c: edit_config(c, quantization_config={"quant_method": "quanto"}),
        "quantization method 'quanto' is not supported",
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


def test_an_encoder_decoder_without_an_encoder_of_its_own_is_refused_by_the_true_reason(
    tmp_path: Path,
) -> None:
    folder = checkpoints.body(tmp_path / "c", "bart", d_model=32, encoder_layers=1, decoder_layers=1)
    with pytest.raises(
        CheckpointError, match="bart is an encoder-decoder, and transformers has no model of its"
    ):
        load_checkpoint(folder, head="none")


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
    assert checkpoint_sha256(checkpoint) == before  # no modules.json names it
    modules = '[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]'
    (checkpoint / "modules.json").write_text(modules)
    assert checkpoint_sha256(checkpoint) != before


def test_a_model_that_reads_no_token_ids_is_refused_by_name(tmp_path: Path) -> None:
    sizes = {"num_hash_buckets": 8, "num_hash_functions": 2, "upsampling_kernel_size": 2}
    folder = checkpoints.body(tmp_path / "c", "canine", **sizes)
    with pytest.raises(CheckpointError, match="CanineModel has no table with a row for each token id"):
        load_checkpoint(folder, head="none")


def test_a_table_of_embeddings_is_counted_whatever_its_class(tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "ibert")  # whose table is no nn.Embedding
    assert load_checkpoint(folder, head="none").vocab_size == checkpoints.VOCABULARY


@pytest.mark.parametrize("save", [checkpoints.body, checkpoints.classifier])
def test_a_family_whose_attention_is_zeros_without_its_kernel_is_refused(
    save: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save(tmp_path / "c", "mra")
    with pytest.raises(CheckpointError, match=r"^mra attends by a CUDA kernel of its own, .* puts zeros"):
        load_checkpoint(folder, head="none" if save is checkpoints.body else "own")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("return_dict", False),
        ("output_hidden_states", True),
        ("output_attentions", True),
        ("chunk_size_feed_forward", 4),
    ],
)
def test_how_a_call_answers_is_not_the_configs_to_say(field: str, value: object, tmp_path: Path) -> None:
    folder = checkpoints.body(tmp_path / "c", "bert")
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        plain = load_checkpoint(folder, head="none").model(input_ids=ids).last_hidden_state
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {field: value}))
        answer = load_checkpoint(folder, head="none").model(input_ids=ids)
    assert torch.equal(answer.last_hidden_state, plain)
    assert set(answer) == {"last_hidden_state", "pooler_output"}
