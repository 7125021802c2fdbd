"""sentence-transformers itself over a folder of its own: the pipeline that the owner of an encoder runs.

Loaded offline, in fp32, on the CPU, from the folder alone. Nothing of what was exported goes into it but a lower limit.
"""

import importlib.metadata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.forms.onnx_file import GRAPH
from rankport.exporters.checkpoints.forms.onnx_model import OnnxModel
from rankport.exporters.checkpoints.forms.skeleton import quiet
from rankport.exporters.checkpoints.sentence_transformers.folder import EncoderFolder, read_encoder_folder
from rankport.exporters.kinds.item_encoder.limits import item_encoder_limits
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.output import output_form
from rankport.exporters.kinds.item_encoder.prompt import skipped_tokens
from rankport.exporters.kinds.texts.folder_prompt import folder_prompt
from rankport.exporters.options.options import flag_name
from rankport.protos.errors import InvalidRequest, ParityError
from rankport.runtime.bundle.manifest import Embedding, Manifest, Prompt

_LIBRARY = "sentence_transformers"


@dataclass(frozen=True, slots=True)
class OwnersPipeline:
    """A loaded SentenceTransformer and the prompt that it is called with."""

    model: Any
    prompt: str

    @property
    def name(self) -> str:
        """Library and version."""
        return f"sentence-transformers {importlib.metadata.version('sentence-transformers')}"

    def ids(self, text: str) -> NDArray[np.int64]:
        """Gives the token ids that the model is given for a text, cut to its limit. [tokens]"""
        ids: NDArray[np.int64] = self.model.preprocess([text], prompt=self.prompt)["input_ids"][0].numpy()
        return ids

    def embeddings(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encodes texts, one a pass, so that none is padded. [texts, 1, hidden]"""
        rows: NDArray[np.float32] = self.model.encode(
            list(texts), prompt=self.prompt, batch_size=1, show_progress_bar=False, convert_to_numpy=True
        )
        return rows[:, None, :]


def owners_pipeline(source: Checkpoint, manifest: Manifest) -> OwnersPipeline | str | None:
    """Loads the pipeline of the folder that a bundle states; a text says why there is none.

    None for a checkpoint that is no folder of sentence-transformers. Raises ParityError for a bundle that is other
    than the folder says without an option that asked for it.
    """
    folder = read_encoder_folder(source.path)
    if folder is None:
        return None
    said = [name for name in manifest.source.overrides if name != "max_item_tokens"]
    if said:
        return f"{', '.join(map(flag_name, said))} may say otherwise than the folder"
    prompt = _stated_prompt(source, folder, manifest)
    if find_spec(_LIBRARY) is None:
        return "sentence-transformers is not installed"
    if manifest.quantization is not None and manifest.quantization.by == "checkpoint":
        return "it does not run the low-bit layers of the bundle"
    if isinstance(source.model, OnnxModel):
        return f"it does not run {GRAPH} by itself"
    if source.adapter is not None:
        return "the folder is an adapter, whose base it would look for by name"
    if source.tokenizer_file is None:
        return "the folder has no tokenizer.json"
    return _loaded(folder, manifest, prompt)


def _stated_prompt(source: Checkpoint, folder: EncoderFolder, manifest: Manifest) -> str:
    """Finds the folder's prompt by which a manifest has the very form, prompt and limit that the folder asks for.

    Raises ParityError naming the field that is other than the folder says, and was not asked for.
    """
    assert manifest.embedding is not None
    differences = []
    for name in (None, *folder.prompts):
        options = ItemEncoderOptions(prompt_name=name, output_dtype=manifest.embedding.dtype)
        try:
            resolved = folder_prompt(source, folder, name)
        except InvalidRequest:  # of a prompt that cannot be exported, so this bundle has another
            continue
        form = output_form(source, options, skipped_tokens(source, resolved, options))
        if resolved.prompt == manifest.prompt and form == manifest.embedding:
            _require_limit(source, manifest)
            return folder.prompt(name)
        differences.append(_difference(manifest, resolved.prompt, form))
    first = next(iter(differences), "prompt: none of the folder's can be exported")
    raise ParityError(f"{first}, as no option of the export asked for")


def _require_limit(source: Checkpoint, manifest: Manifest) -> None:
    stated, limit = item_encoder_limits(source, ItemEncoderOptions()), manifest.limits.max_item_tokens
    if "max_item_tokens" not in manifest.source.overrides and limit != stated.max_item_tokens:
        raise ParityError(
            f"limits.max_item_tokens: is {limit}, the folder says {stated.max_item_tokens}, as no option of the export "
            "asked for"
        )


def _difference(manifest: Manifest, prompt: Prompt, form: Embedding) -> str:
    """Names the first field in which a manifest is other than its folder."""
    assert manifest.embedding is not None
    for name in type(form).model_fields:
        ours, folders = getattr(manifest.embedding, name), getattr(form, name)
        if ours != folders:
            return f"embedding.{name}: is {ours!r}, the folder says {folders!r}"
    ours, folders = (part.model_dump_json(exclude_defaults=True) for part in (manifest.prompt, prompt))
    return f"prompt: is {ours}, the folder says {folders}"


def _loaded(folder: EncoderFolder, manifest: Manifest, prompt: str) -> OwnersPipeline | str:
    from sentence_transformers import SentenceTransformer

    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: Any = SentenceTransformer(
                str(folder.path),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            )
    except Exception as error:  # the library raises whatever it likes
        return f"it cannot load the folder ({type(error).__name__}: {str(error).splitlines()[0]})"
    if not hasattr(model, "preprocess"):
        return "its release is older than 6.2"
    limit = manifest.limits.max_item_tokens
    if limit < model.max_seq_length:
        model.max_seq_length = limit
    return OwnersPipeline(model.eval(), prompt)
