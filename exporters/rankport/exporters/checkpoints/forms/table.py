"""The forms in which checkpoints arrive: one explicit table, first match wins."""

from collections.abc import Callable
from dataclasses import dataclass

from rankport.exporters.checkpoints.forms import compressed_tensors, control_llm, gptq, plain
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel
from rankport.protos.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Form:
    """One form and its loader."""

    name: str
    matches: Callable[[CheckpointFolder], bool]
    load: Callable[[CheckpointFolder, Head], LoadedModel]


FORMS: tuple[Form, ...] = (
    Form("control-llm", control_llm.matches, control_llm.load),
    Form("compressed-tensors", compressed_tensors.matches, compressed_tensors.load),
    Form("gptq", gptq.matches, gptq.load),
    Form("plain", plain.matches, plain.load),
)


def load_form(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Loads the folder by the first form that it has. Raises CheckpointError if it has none."""
    for form in FORMS:
        if form.matches(folder):
            return form.load(folder, head)
    known = ", ".join(form.name for form in FORMS)
    raise CheckpointError(
        f"config.json: quantization method {folder.quantization_method!r} is not supported (there are: {known}): "
        "export the original in full precision, with --quantize if low bits are wanted"
    )
