"""GPTQ checkpoints load low-bit and equal the published formula, and optimum's own layers; damaged ones are named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, LoadedModel
from rankport.exporters.checkpoints.forms.quantized import gptq
from rankport.exporters.quantization.linear import QuantizedLinear
from rankport.protos.errors import CheckpointError
from support import checkpoints
from support.forms.gptq_checkpoints import (
    OPTIMUM,
    Gptq,
    dequantized,
    formula_logits,
    less_one,
    packed_rows,
    unpacked_rows,
)
from support.forms.gptq_checkpoints import gptq as write
from support.forms.quantized_checkpoints import (
    read_tensors,
    rewrite_quantization,
    rewrite_tensors,
    state_quantization,
)

IDS = torch.arange(3, 35)[None]
LAYER = "model.layers.1.mlp.down_proj"
FORMS: dict[str, Gptq] = {
    "int4": Gptq(),
    "int4 v2": Gptq(checkpoint_format="gptq_v2"),
    "int4 act order": Gptq(desc_act=True),
    "int4 asymmetric": Gptq(sym=False),
    "int4 asymmetric v2 act order": Gptq(sym=False, desc_act=True, checkpoint_format="gptq_v2"),
    "int4 per channel": Gptq(group_size=-1),
    "int8": Gptq(bits=8, group_size=64),
    "int8 asymmetric": Gptq(bits=8, sym=False),
    "int4 head": Gptq(lm_head=True),
    "int3": Gptq(bits=3),
    "int3 asymmetric act order": Gptq(bits=3, sym=False, desc_act=True),
    "int3 asymmetric v2": Gptq(bits=3, sym=False, checkpoint_format="gptq_v2"),
    "int2": Gptq(bits=2, checkpoint_format="gptq_v2"),
    "int2 asymmetric": Gptq(bits=2, sym=False),
}


def _load(folder: Path) -> LoadedModel:
    opened = CheckpointFolder.open(folder)
    assert gptq.matches(opened)
    return gptq.load(opened, "lm_head")


def _logits(loaded: LoadedModel) -> Tensor:
    with torch.no_grad():
        logits: Tensor = loaded.model(input_ids=IDS).logits
    return logits


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_equals_the_published_formula(form: str, tmp_path: Path) -> None:
    # 128 rows of a vocabulary: packed words hold whole rows only.
    folder = write(tmp_path / "c", FORMS[form], vocab_size=128)
    torch.testing.assert_close(_logits(_load(folder)), formula_logits(folder, IDS), rtol=0, atol=1e-5)


VARIANTS = {"symmetric": 4, "asymmetric_act_order": 4, "three_bits": 3, "two_bits_act_order": 2}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_checkpoint_of_optimum_equals_its_own_layers(variant: str) -> None:
    expected = load_file(OPTIMUM / variant / "reference.safetensors")["logits"]
    torch.testing.assert_close(_logits(_load(OPTIMUM / variant)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_writer_of_these_tests_packs_as_optimum_does(variant: str) -> None:
    tensors, bits = read_tensors(OPTIMUM / variant), VARIANTS[variant]
    for name in [name for name in tensors if name.endswith("qweight")]:
        assert torch.equal(packed_rows(unpacked_rows(tensors[name], bits), bits), tensors[name])
        zeros = tensors[name.replace("qweight", "qzeros")].T
        assert torch.equal(packed_rows(unpacked_rows(zeros, bits), bits), zeros)


def test_zero_points_of_symmetric_weights_are_read_off_the_tensors_against_the_config() -> None:
    stated = json.loads((OPTIMUM / "symmetric" / "config.json").read_text())["quantization_config"]["format"]
    loaded = _load(OPTIMUM / "symmetric")
    assert loaded.quantization is not None
    assert (stated, loaded.quantization.format) == ("gptq_v2", "gptq")
    assert loaded.notes == (
        "config.json says GPTQ format 'gptq_v2', zero points are stored as in 'gptq': taken so",
    )


def test_fewer_bits_than_4_are_kept_in_4_and_noted(tmp_path: Path) -> None:
    loaded = _load(OPTIMUM / "two_bits_act_order")
    assert loaded.notes == ("weights stored in 2 bits are kept in 4",)
    assert loaded.quantization is not None
    assert {scheme.bits for scheme in loaded.quantization.schemes} == {4}


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_zero_points_of_0_that_are_stored_less_one_are_read_back(bits: int, tmp_path: Path) -> None:
    """Less one, 0 turns into the largest code, and takes 1 from the next where whole words are subtracted."""
    folder = write(tmp_path / "c", Gptq(bits=bits, sym=False))
    zeros = unpacked_rows(read_tensors(folder)[f"{LAYER}.qzeros"].T, bits).T.contiguous()
    zeros[:, ::3] = 0
    stored = less_one(zeros.T, bits).contiguous()
    rewrite_tensors(folder, lambda tensors: tensors.update({f"{LAYER}.qzeros": stored}))
    layer = _load(folder).model.get_submodule(LAYER)
    assert isinstance(layer, QuantizedLinear)
    assert layer.quantized.zeros is not None
    assert torch.equal(layer.quantized.zeros.long() + 2 ** (bits - 1), zeros.T)


def test_layers_have_the_bits_that_rules_say(tmp_path: Path) -> None:
    """GPT-QModel's rules: matched from the start of a name, the first counts, those of `-` before all others."""
    folder = write(tmp_path / "c", Gptq())
    other = read_tensors(write(tmp_path / "other", Gptq(bits=3, sym=False, group_size=64, desc_act=True)))
    mixed = (LAYER, "model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj")
    rewrite_tensors(
        folder, lambda t: t.update({name: other[name] for name in other if name.startswith(mixed)})
    )
    stated = {"bits": 3, "sym": False, "group_size": 64, "desc_act": True}
    rules = {
        "layers": {"bits": 2},
        r"+:.*\.up_proj": stated,
        f"{LAYER}$": stated,
        ".*_proj": {},
        "-:.*head": {},
    }
    rewrite_quantization(folder, lambda said: said.update(dynamic=rules))
    loaded, tensors = _load(folder), read_tensors(folder)
    for name in (*mixed, "model.layers.0.mlp.down_proj"):
        layer = loaded.model.get_submodule(name)
        assert isinstance(layer, QuantizedLinear)
        expected = dequantized(tensors, name, 3 if name in mixed else 4, "gptq")
        assert torch.equal(layer.quantized.dequantized(), expected)
    assert loaded.notes == ("weights stored in 3 bits are kept in 4",)


def test_weights_stay_low_bit_and_the_facts_say_so(tmp_path: Path) -> None:
    loaded = _load(write(tmp_path / "c", Gptq(desc_act=True)))
    layers = {
        name: one
        for name, one in loaded.model.named_modules()
        if isinstance(one, nn.Linear | QuantizedLinear)
    }
    assert [name for name, one in layers.items() if isinstance(one, nn.Linear)] == ["lm_head"]
    kept = [one.quantized for one in layers.values() if isinstance(one, QuantizedLinear)]
    assert all(one.codes.dtype == torch.int8 and one.zeros is None for one in kept)
    assert all(one.groups_of is not None for one in kept)
    facts = loaded.quantization
    assert facts is not None
    assert (facts.method, facts.format, facts.kept) == (
        "gptq",
        "gptq",
        ("label rows of the LM head", "model.embed_tokens"),
    )
    (scheme,) = facts.schemes
    assert (scheme.layers, scheme.bits, scheme.type, scheme.group_size) == (14, 4, "int", 32)
    assert (scheme.symmetric, scheme.activations) == (True, "none")
    assert scheme.weights == sum(one.codes.numel() for one in kept)


def test_contiguous_groups_need_no_order(tmp_path: Path) -> None:
    layer = _load(write(tmp_path / "c", Gptq())).model.get_submodule(LAYER)
    assert isinstance(layer, QuantizedLinear)
    assert layer.quantized.groups_of is None


def test_biases_of_zeros_that_old_writers_add_are_dropped(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", Gptq())
    expected = _logits(_load(folder))
    rewrite_tensors(folder, lambda tensors: tensors.update({f"{LAYER}.bias": torch.zeros(128).half()}))
    assert torch.equal(_logits(_load(folder)), expected)


def test_biases_of_the_model_are_kept(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", Gptq(), model_type="qwen2")
    torch.testing.assert_close(_logits(_load(folder)), formula_logits(folder, IDS), rtol=0, atol=1e-5)


def test_a_bare_body_loads_without_its_head(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", Gptq(lm_head=True), vocab_size=128)
    body = gptq.load(CheckpointFolder.open(folder), "none").model
    assert isinstance(body.get_submodule("layers.0.mlp.up_proj"), QuantizedLinear)


def test_a_layer_that_was_pruned_is_as_wide_as_its_tensors(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", Gptq())
    mlp, kept = "model.layers.1.mlp", 128

    def without_neurons(tensors: dict[str, Tensor]) -> None:
        tensors[f"{mlp}.gate_proj.scales"][:, kept:] = 0

    def pruned(tensors: dict[str, Tensor]) -> None:
        for part, shorter in (("qweight", kept), ("qzeros", kept // 8), ("scales", kept)):
            for name in (f"{mlp}.gate_proj.{part}", f"{mlp}.up_proj.{part}"):
                tensors[name] = tensors[name][:, :shorter]
        for part, shorter in (
            ("qweight", kept // 8),
            ("qzeros", kept // 32),
            ("scales", kept // 32),
            ("g_idx", kept),
        ):
            tensors[f"{mlp}.down_proj.{part}"] = tensors[f"{mlp}.down_proj.{part}"][:shorter]

    expected = formula_logits(rewrite_tensors(shutil.copytree(folder, tmp_path / "w"), without_neurons), IDS)
    loaded = _load(rewrite_tensors(shutil.copytree(folder, tmp_path / "p"), pruned))
    torch.testing.assert_close(_logits(loaded), expected, rtol=0, atol=1e-5)
    assert loaded.notes == ("layers 1: intermediate_size 128, read off the tensors (config.json says 192)",)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to damage copies of."""
    return write(tmp_path_factory.mktemp("gptq") / "sound", Gptq(desc_act=True))


FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "5 bits": ({"bits": 5}, r"quantization_config\.bits is 5, supported is 2, 3, 4 or 8"),
    "planes": (
        {"bits": 3, "checkpoint_format": "gptq_p"},
        "checkpoint_format is 'gptq_p', supported is 'gptq'",
    ),
    "marlin": ({"checkpoint_format": "marlin"}, r"checkpoint_format is 'marlin', supported is 'gptq'"),
    "old marlin": ({"is_marlin_format": True}, "checkpoint_format is 'marlin'"),
    "group size": ({"group_size": 0}, "group_size is 0"),
    "packing": ({"pack_dtype": "int16"}, "pack_dtype is 'int16'"),
    "other bits": (
        {"dynamic": {"+:.*down.*": {"bits": 8}}},
        r"down_proj\.qweight' has shape \[24, 128\], the config expects \[48, 128\]",
    ),
    "other bits that are not read": (
        {"dynamic": {"+:.*down.*": {"bits": 6}}},
        r"dynamic\.\+:\.\*down\.\*\.bits is 6, supported is 2, 3, 4 or 8",
    ),
    "a rotated layer": (
        {"dynamic": {".*down": {"rotation": "quip"}}},
        r"dynamic\.\.\*down\.rotation is 'quip'",
    ),
    "a layer left out that is not": (
        {"dynamic": {"-:.*down": {}}},
        r"down_proj' is stored in codes, and config\.json: quantization_config\.dynamic\.-:\.\*down leaves it in full",
    ),
    "a rule of nothing": ({"dynamic": {".*down": 8}}, r"dynamic\.\.\*down is 8, supported is an object"),
    "no regular expression": ({"dynamic": {"+:(": {}}}, r"dynamic holds '\+:\(', no regular expression"),
    "a slip in a rule": ({"dynamic": {"down": {"groupsize": 64}}}, "is 'group_size' meant"),
    "activations": ({"activation": {"mode": "w4a_nvfp4"}}, "activation is .*w4a_nvfp4"),
    "rotation": ({"rotation": "hadamard"}, "rotation is 'hadamard'"),
    "group too long": (
        {"group_size": 80},
        r"'model\.layers\.\d\..*has \d+ input channels, which group_size 80 does not divide",
    ),
    "other groups": ({"group_size": 64}, r"qzeros' has shape \[6, 16\], the config expects \[3, 16\]"),
    "a slip": ({"groupsize": 64}, r"quantization_config\.groupsize is 64, .*: is 'group_size' meant"),
    "a word": ({"sym": "false"}, r"quantization_config\.sym is 'false', must be true or false"),
    "another word": ({"desc_act": 1}, r"quantization_config\.desc_act is 1, must be true or false"),
    "8 bits": ({"bits": 8}, r"qweight' has shape \[24, 128\], the config expects \[48, 128\]"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_config_that_cannot_be_served_is_refused_by_its_field(
    field: str, sound: Path, tmp_path: Path
) -> None:
    change, message = FIELDS[field]
    folder = shutil.copytree(sound, tmp_path / "c")
    rewrite_quantization(folder, lambda stated: stated.update(change))
    with pytest.raises(CheckpointError, match=message):
        _load(folder)


def _drop(part: str) -> Callable[[dict[str, Tensor]], None]:
    def apply(tensors: dict[str, Tensor]) -> None:
        del tensors[f"{LAYER}.{part}"]

    return apply


def _change(part: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], None]:
    def apply(tensors: dict[str, Tensor]) -> None:
        tensors[f"{LAYER}.{part}"] = change(tensors[f"{LAYER}.{part}"])

    return apply


def _with(value: float, at: int = 0) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed.view(-1)[at] = value
        return changed

    return change


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], None], str]] = {
    "no scales": (_drop("scales"), rf"lacks tensor '{LAYER}\.scales'"),
    "no zeros": (_drop("qzeros"), rf"lacks tensor '{LAYER}\.qzeros'"),
    "no order": (_drop("g_idx"), rf"lacks tensor '{LAYER}\.g_idx'"),
    "NaN scale": (_change("scales", _with(float("nan"))), rf"'{LAYER}\.scales' holds NaN"),
    "no scale above 0": (_change("scales", torch.zeros_like), "holds zeros only: scales must be above 0"),
    "wrong shape": (_change("scales", lambda one: one[:, :-1]), r"scales' has shape \[6, 127\]"),
    "wrong type": (
        _change("qweight", lambda one: one.float()),
        "stored as float32, the config expects int32",
    ),
    "group out of range": (_change("g_idx", _with(6)), r"g_idx' holds group 6, the scales have 6 groups"),
    "unequal groups": (
        _change("g_idx", lambda one: one.clamp(min=1)),
        "g_idx' gives its groups 0 to 64 channels",
    ),
    "zeros off the middle": (
        _change("qzeros", _with(3)),
        r"quantization_config\.sym is true.*set sym to false",
    ),
    "a bias without a place": (
        lambda tensors: tensors.update({f"{LAYER}.bias": torch.ones(128)}),
        rf"holds tensor '{LAYER}\.bias', which its config has no place for",
    ),
    "a layer without a place": (
        lambda tensors: tensors.update({"model.layers.9.mlp.qweight": torch.zeros(1, 1, dtype=torch.int32)}),
        r"quantized layer 'model\.layers\.9\.mlp', which its config has no place for",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_tensor_is_named(damage: str, sound: Path, tmp_path: Path) -> None:
    change, message = DAMAGES[damage]
    folder = rewrite_tensors(shutil.copytree(sound, tmp_path / "c"), change)
    with pytest.raises(CheckpointError, match=message):
        _load(folder)


def test_a_config_beside_full_precision_weights_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "llama")
    state_quantization(folder, quant_method="gptq", bits=4)
    with pytest.raises(CheckpointError, match=r"no tensor named '\.\.\.qweight': remove quantization_config"):
        _load(folder)


def test_a_quantized_head_that_the_config_ties_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", Gptq(lm_head=True), vocab_size=128)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    with pytest.raises(
        CheckpointError, match=r"'lm_head' is quantized on its own.*tie_word_embeddings to false"
    ):
        _load(folder)


def test_the_formula_of_these_tests_is_that_of_the_loaded_weights(sound: Path) -> None:
    layer = _load(sound).model.get_submodule(LAYER)
    assert isinstance(layer, QuantizedLinear)
    expected = dequantized(read_tensors(sound), LAYER, 4, "gptq")
    assert torch.equal(layer.quantized.dequantized(), expected)
