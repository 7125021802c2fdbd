"""Small random compressed-tensors checkpoints, written and run by the compressed-tensors library itself."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import (
    QuantizationArgs,
    QuantizationConfig,
    QuantizationScheme,
    QuantizationStatus,
    apply_quantization_config,
    preset_name_to_scheme,
)
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from support import checkpoints

WEIGHTS = "model.safetensors"
SHAPE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 384, "head_dim": 32}
Scheme = str | dict[str, QuantizationArgs]
W8A16_CHANNEL = {"weights": QuantizationArgs(num_bits=8, type="int", strategy="channel", symmetric=True)}
W4A16_CHANNEL_ASYM = {
    "weights": QuantizationArgs(num_bits=4, type="int", strategy="channel", symmetric=False)
}


def compressed_tensors(
    folder: Path,
    scheme: Scheme,
    *,
    others: dict[str, Scheme] | None = None,
    model_type: str = "qwen3",
    dtype: torch.dtype = torch.float32,
    ignore: tuple[str, ...] = ("lm_head",),
    tokenizer: bool = False,
    **overrides: Any,
) -> Path:
    """A decoder quantized by rounding to nearest.

    `scheme` (a preset's name, or the arguments of one) is that of linear layers, `others` those of other targets.
    """
    dense = checkpoints.causal_lm(
        folder.with_name(f"{folder.name}-dense"), model_type, tokenizer=tokenizer, **{**SHAPE, **overrides}
    )
    groups = {"Linear": scheme, **(others or {})}
    config = QuantizationConfig(
        config_groups={f"group_{i}": _scheme(one, target) for i, (target, one) in enumerate(groups.items())},
        ignore=list(ignore),
        quantization_status=QuantizationStatus.INITIALIZED,
    )
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(dense, dtype=dtype)
        apply_quantization_config(model, config, show_progress=False)
        _observe_weights(model)
        _observe_inputs(model)
        compressor = ModelCompressor.from_pretrained_model(model)
        compressor.compress_model(model)
        model.save_pretrained(folder)
        compressor.update_config(str(folder))
    if tokenizer:
        checkpoints.tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def library_model(folder: Path) -> nn.Module:
    """The checkpoint as transformers and compressed-tensors run it in fp32.

    Weights are dequantized, activations quantized and dequantized where the scheme says so.
    """
    config = AutoConfig.from_pretrained(folder)
    groups = config.quantization_config["config_groups"].values()
    # The library's usual route cannot load packed zero points. Its other one rounds weights to the type of the scales.
    config.quantization_config["dequantize"] = any(
        group["format"] == "pack-quantized" and not group["weights"]["symmetric"] for group in groups
    )
    with quiet():
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=torch.float32, attn_implementation="eager"
        )
    return model.eval()


def library_logits(folder: Path, ids: Tensor) -> Tensor:
    """Computes its logits [batch, tokens, vocabulary]."""
    with quiet(), torch.no_grad():
        logits: Tensor = library_model(folder)(input_ids=ids).logits
    return logits


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All stored tensors."""
    with safe_open(folder / WEIGHTS, framework="pt") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - safe_open is no mapping


def rewrite_tensors(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """Lets `change` edit the stored tensors in place."""
    tensors = read_tensors(folder)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    return folder


def state_quantization(folder: Path, **stated: Any) -> Path:
    """Has config.json state a `quantization_config`, whatever it said before."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": stated}))
    return folder


def rewrite_quantization(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Lets `change` edit `quantization_config` of config.json in place."""
    config = json.loads((folder / "config.json").read_text())
    change(config["quantization_config"])
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@contextmanager
def quiet() -> Iterator[None]:
    """transformers and compressed-tensors without their bars."""
    chatter = transformers.utils.logging
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.enable_progress_bar()


def _scheme(scheme: Scheme, target: str) -> QuantizationScheme:
    if isinstance(scheme, str):
        return preset_name_to_scheme(scheme, [target])
    return QuantizationScheme(targets=[target], **scheme)


def _quantized(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if hasattr(module, "quantization_scheme"))


def _observe_weights(model: nn.Module) -> None:
    """Scales (and zero points) from the smallest and largest weight of each group, or block."""
    for module in _quantized(model):
        args = module.quantization_scheme.weights
        weight = module.weight.data.float()
        unit = None
        if args.strategy == "tensor_group":
            unit = generate_gparam(weight.amin(), weight.amax())
            module.weight_global_scale.data.copy_(unit)
        if args.strategy in ("group", "tensor_group"):
            weight = weight.unflatten(-1, (-1, args.group_size))
        elif args.strategy == "tensor":
            weight = weight.reshape(1, -1)
        elif args.strategy == "block":
            weight = _blocks(weight, *args.block_structure)
        scales, zeros = calculate_qparams(weight.amin(-1), weight.amax(-1), args, global_scale=unit)
        module.weight_scale.data.copy_(scales.reshape(module.weight_scale.shape))
        module.weight_zero_point.data.copy_(zeros.reshape(module.weight_zero_point.shape))


def _blocks(weight: Tensor, rows: int, columns: int) -> Tensor:
    """Blocks [down, across, rows * columns] of a matrix, zeros where the last ones are cut."""
    whole = nn.functional.pad(weight, (0, -weight.shape[1] % columns, 0, -weight.shape[0] % rows))
    return whole.unflatten(1, (-1, columns)).unflatten(0, (-1, rows)).transpose(1, 2).flatten(2)


def _observe_inputs(model: nn.Module) -> None:
    """Static input scales, or units of them, from one batch."""
    static = [
        module
        for module in _quantized(model)
        if module.quantization_scheme.input_activations
        and module.quantization_scheme.input_activations.dynamic is not True
    ]

    def observe(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        least, most = inputs[0].float().aminmax()
        if module.quantization_scheme.input_activations.dynamic:
            module.input_global_scale.data.copy_(generate_gparam(least, most))
        else:
            scale, _ = calculate_qparams(least, most, module.quantization_scheme.input_activations)
            module.input_scale.data.copy_(scale.reshape(module.input_scale.shape))
        module.quantization_enabled = False

    hooks = [module.register_forward_pre_hook(observe) for module in static]
    if static:
        with torch.no_grad():
            model(input_ids=torch.arange(3, 67)[None])
    for hook, module in zip(hooks, static, strict=True):
        hook.remove()
        module.quantization_enabled = True
