"""sentence-transformers itself over a folder of its own: the pipeline that the owner of a pooled model runs.

Loaded offline, in fp32, on the CPU, from the folder alone, whose tensors are renamed where it is in a published layout.
Nothing of what was exported goes into it but a lower limit.
"""

import warnings
from collections.abc import Callable, Sequence
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
from rankport.exporters.kinds.texts.readable_folder import readable_folder
from rankport.exporters.kinds.texts.samples import overlong_text, sample_texts
from rankport.protos.errors import ParityError
from rankport.protos.installed.packages import installed_version
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer

MODE = "sentence_transformers"
_LIBRARY = "sentence_transformers"


@dataclass(frozen=True, slots=True)
class OwnersPipeline:
    """A loaded SentenceTransformer and the prompt that it is called with."""

    model: Any
    prompt: str
    renamed: bool = False  # of a published layout: it reads a copy in transformers' words

    @property
    def name(self) -> str:
        """Library and version, and what it reads if that is not the folder."""
        return library_in_words(self.renamed)

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


def library_in_words(renamed: bool) -> str:
    """Names the library and its version; `renamed` is a folder of which it reads a copy in transformers' words."""
    copied = ", over a copy with tensors renamed," if renamed else ""
    return f"sentence-transformers {installed_version('sentence-transformers') or 'unknown'}{copied}"


def pipeline_obstacle(source: Checkpoint, manifest: Manifest) -> str | None:
    """Says why the library cannot stand for a bundle of one of its folders; None where it can."""
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
    return None


def load_pipeline(source: Checkpoint, manifest: Manifest, prompt: str) -> OwnersPipeline | str:
    """Loads the folder, with the prompt that it puts before texts; a text says why it cannot."""
    from sentence_transformers import SentenceTransformer

    model = load_by_library(SentenceTransformer, source)
    if isinstance(model, str):
        return model
    limit = manifest.limits.max_item_tokens
    if limit < model.max_seq_length:
        model.max_seq_length = limit
    return OwnersPipeline(model.eval(), prompt, not source.library_reads)


def load_by_library(kind: Callable[..., Any], source: Checkpoint) -> Any:
    """Loads a checkpoint's folder, in fp32 on the CPU and without running its code, as one of the library's classes.

    One in a published layout is copied with the tensors renamed, since the library would run code to read it.

    A text says why it cannot.
    """
    try:
        with quiet(), warnings.catch_warnings(), readable_folder(source) as folder:
            warnings.simplefilter("ignore")
            model = kind(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            )
    except Exception as error:  # the library raises whatever it likes
        return f"it cannot load the folder ({type(error).__name__}: {str(error).splitlines()[0]})"
    return model if hasattr(model, "preprocess") else "its release is older than 6.2"


def same_ids(bundle: Bundle, pipeline: OwnersPipeline) -> list[str]:
    """Draws texts, and checks that both read them as the same token ids. Raises ParityError for one that is not."""
    manifest = bundle.manifest
    assert manifest.tokenizer is not None
    tokenizer = Tokenizer.from_file(bundle.file(manifest.tokenizer))
    texts = sample_texts(tokenizer, manifest.limits.max_item_tokens)
    checked = [*texts, overlong_text(texts, manifest.limits.max_item_tokens)]
    runs = PromptEncoder(manifest, tokenizer).encode_items(checked, "truncate").runs
    for place, text in enumerate(checked):
        start, end = runs.offsets[place : place + 2]
        require_same_ids(runs.ids[start:end], pipeline.ids(text), text, tokenizer)
    return texts


def require_same_ids(
    ours: NDArray[np.int64], owners: NDArray[np.int64], text: str, tokenizer: Tokenizer
) -> None:
    """Raises ParityError where a text is other token ids [tokens] in the bundle than in the library."""
    if np.array_equal(ours, owners):
        return
    shared = min(len(ours), len(owners))
    place = next((i for i in range(shared) if ours[i] != owners[i]), shared)
    shown = [tokenizer.decode(ids[place : place + 3]) for ids in (ours, owners)]
    raise ParityError(
        f"{MODE}: {text[:40]!r} is {len(ours)} tokens in the bundle and {len(owners)} in sentence-transformers; "
        f"from token {place} on {shown[0]!r} and {shown[1]!r}: tokenizer_config.json must make the ids of "
        "tokenizer.json, or the prompt and limits of the bundle are other ones"
    )
