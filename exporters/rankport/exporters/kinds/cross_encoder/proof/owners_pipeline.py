"""sentence-transformers itself over a CrossEncoder's folder: the pipeline that the owner of a cross-encoder runs.

Loaded offline, in fp32, on the CPU, from the folder alone. Nothing of what was exported goes into it but a lower limit.
"""

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
from rankport.exporters.checkpoints.sentence_transformers.cross_encoder import CrossEncoderFolder
from rankport.protos.packages import installed_version
from rankport.runtime.bundle.manifest import Manifest

_LIBRARY = "sentence_transformers"


@dataclass(frozen=True, slots=True)
class OwnersPipeline:
    """A loaded CrossEncoder."""

    model: Any

    @property
    def name(self) -> str:
        """Library and version."""
        return f"sentence-transformers {installed_version('sentence-transformers') or 'unknown'}"

    def logits(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Predicts without activation, one pair a pass, so that none is padded. [pairs, labels]"""
        return self._predicted(pairs, torch.nn.Identity()).reshape(len(pairs), -1)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Predicts with the folder's own activation. [pairs], or [pairs, labels] of several labels"""
        return self._predicted(pairs, None)

    def _predicted(self, pairs: Sequence[tuple[str, str]], activation: Any) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self.model.predict(
            list(pairs),
            activation_fn=activation,
            batch_size=1,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return rows


def owners_pipeline(source: Checkpoint, manifest: Manifest) -> OwnersPipeline | str | None:
    """Loads the pipeline of a folder that sentence-transformers wrote; a text says why there is none.

    None for another checkpoint.
    """
    if not CrossEncoderFolder.read(source.path).is_own:
        return None
    if "cut" in manifest.source.overrides:
        return "--cut may say otherwise than the folder"
    if find_spec(_LIBRARY) is None:
        return "sentence-transformers is not installed"
    if manifest.quantization is not None and manifest.quantization.by == "checkpoint":
        return "it does not run the low-bit layers of the bundle"
    if isinstance(source.model, OnnxModel):
        return f"it does not run {GRAPH} by itself"
    if source.head == "seq2seq_lm_head":
        return "it knows no answer by the first token of an encoder-decoder"
    if source.adapter is not None:
        return "the folder is an adapter, whose base it would look for by name"
    if source.tokenizer_file is None:
        return "the folder has no tokenizer.json"
    return _loaded(source, manifest)


def _loaded(source: Checkpoint, manifest: Manifest) -> OwnersPipeline | str:
    from sentence_transformers import CrossEncoder

    assert manifest.pair is not None
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: Any = CrossEncoder(
                str(source.path),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": torch.float32, "use_safetensors": True},
            )
    except Exception as error:  # the library raises whatever it likes
        return f"it cannot load the folder ({type(error).__name__}: {str(error).splitlines()[0]})"
    if not hasattr(model, "preprocess"):
        return "its release is older than 6.2"
    if "max_pair_tokens" in manifest.source.overrides:
        model.max_seq_length = manifest.pair.max_tokens
    return OwnersPipeline(model.eval())
