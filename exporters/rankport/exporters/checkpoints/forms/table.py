"""The forms in which checkpoints arrive: one explicit table, first match wins."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from rankport.exporters.checkpoints.config.heads import WITHOUT_PROJECTION, labels_apart, left_out
from rankport.exporters.checkpoints.forms import control_llm, onnx_model, plain, published
from rankport.exporters.checkpoints.forms.fill import head_left, is_decoders, is_projection, local_name
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.exporters.checkpoints.forms.own import list_ranker, set_ranker, two_tower
from rankport.exporters.checkpoints.forms.quantized import (
    auto_round,
    awq,
    bitsandbytes,
    compressed_tensors,
    fine_grained_fp8,
    gptq,
    hqq,
    modelopt,
    mxfp4,
    torchao,
)
from rankport.exporters.checkpoints.forms.text_part import keep_text_part
from rankport.protos.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Form:
    """One form and its loader."""

    name: str
    matches: Callable[[CheckpointFolder], bool]
    load: Callable[[CheckpointFolder, Head], LoadedModel]
    quantized: bool = False  # its name is a method of quantization_config


FORMS: tuple[Form, ...] = (
    Form("onnx", onnx_model.matches, onnx_model.load),
    Form("two-tower", two_tower.matches, two_tower.load),
    Form("set-ranker", set_ranker.matches, set_ranker.load),
    Form("list-ranker", list_ranker.matches, list_ranker.load),
    Form("control-llm", control_llm.matches, control_llm.load),
    Form("compressed-tensors", compressed_tensors.matches, compressed_tensors.load, quantized=True),
    Form("gptq", gptq.matches, gptq.load, quantized=True),
    Form("awq", awq.matches, awq.load, quantized=True),
    Form("auto-round", auto_round.matches, auto_round.load, quantized=True),
    Form("fp8", fine_grained_fp8.matches, fine_grained_fp8.load, quantized=True),
    Form("bitsandbytes", bitsandbytes.matches, bitsandbytes.load, quantized=True),
    Form("hqq", hqq.matches, hqq.load, quantized=True),
    Form("mxfp4", mxfp4.matches, mxfp4.load, quantized=True),
    Form("modelopt", modelopt.matches, modelopt.load, quantized=True),
    Form("torchao", torchao.matches, torchao.load, quantized=True),
    Form("published", published.matches, published.load),
    Form("plain", plain.matches, plain.load),
)


def load_form(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Loads the folder by the first form that it has. Raises CheckpointError if it has none."""
    for form in FORMS:
        if form.matches(folder):
            return _with_notes(form.load(folder, head), folder, head)
    known = ", ".join(form.name for form in FORMS if form.quantized)
    if folder.quantization_method == "?":
        raise CheckpointError(
            "config.json: quantization_config has no quant_method, so nothing says how to read the weights: add the "
            f"one that they were written with (there are: {known})"
        )
    raise CheckpointError(
        f"config.json: quantization method {folder.quantization_method!r} is not supported (there are: {known}): "
        "export the original in full precision, with --quantize if low bits are wanted"
    )


_DECODER = "decoder.weight"
"""Name that tensors of a decoder count by, whatever they are called in it."""


def _with_notes(loaded: LoadedModel, folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Adds what was read of other files, heads that a bare body left behind, and what is doubtful of labels."""
    model = loaded.model
    heads: tuple[str, ...] = ()
    if head_left(folder, head) == "none" and not isinstance(model, onnx_model.OnnxModel):
        places = model.state_dict(keep_vars=True)
        without = [name for name in folder.tensors if local_name(model, places, name) is None]
        heads = left_out(_DECODER if is_decoders(model, name) else name for name in without)
        heads += (WITHOUT_PROJECTION,) * any(is_projection(folder, name) for name in without)
    labels = labels_apart(folder.raw) if head in ("classification_head", "token_head") else ()
    towers = keep_text_part(model)
    return dataclasses.replace(loaded, notes=(*folder.notes, *loaded.notes, *heads, *labels, *towers))
