"""Random weights that no machine has to send to another: each follows from its name alone.

A weight is one random byte b, as (2 b - 255) x a power of two: at most 8 significant bits, so bfloat16, float16 and
float32 hold it exactly, and its bytes in each are a table of 256 entries. The bytes are the raw stream of PCG64, which
numpy keeps the same over its versions.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.workload.shapes import ModelShape, Parameters

DType = Literal["bfloat16", "float16", "float32"]
SCALES = {"matrix": 2.0**-12, "norm": 1.0}
"""Scales of (2 b - 255), whose standard deviation is 148, by kind: 0.036 altogether; norms are this value itself."""
STORED: dict[DType, np.dtype[Any]] = {
    "bfloat16": np.dtype("<u2"),  # numpy has no bfloat16: its bits
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
}


class Weights(Protocol):
    """What a bundle was made of: random weights, or a checkpoint that is at hand on every machine."""

    def shapes(self) -> Parameters:
        """Tells the shapes of all parameters, by name."""

    def stored(self, name: str, shape: tuple[int, ...], dtype: DType) -> NDArray[Any]:
        """A parameter in the form that a file has it in; of bfloat16 the bits."""


@dataclass(frozen=True, slots=True)
class RandomWeights:
    """Those of this module. Implements `Weights`."""

    parameters: Parameters

    def shapes(self) -> Parameters:
        """See `Weights.shapes`."""
        return self.parameters

    def stored(self, name: str, shape: tuple[int, ...], dtype: DType) -> NDArray[Any]:
        """See `Weights.stored`."""
        return stored(name, shape, dtype)


@dataclass(frozen=True, slots=True)
class CheckpointWeights:
    """A checkpoint's, rounded to nearest where the form has fewer bits. Implements `Weights`."""

    folder: Path

    def shapes(self) -> Parameters:
        """See `Weights.shapes`."""
        from safetensors import safe_open

        with safe_open(self.folder / "model.safetensors", "np") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    def stored(self, name: str, shape: tuple[int, ...], dtype: DType) -> NDArray[Any]:
        """See `Weights.stored`."""
        import ml_dtypes  # noqa: F401  # teaches numpy what bfloat16 is
        from safetensors import safe_open

        with safe_open(self.folder / "model.safetensors", "np") as file:
            values: NDArray[np.float32] = file.get_tensor(name).astype(np.float32)
        assert values.shape == shape
        if dtype != "bfloat16":
            return values.astype(STORED[dtype])
        bits = values.view(np.uint32)
        # Half of the last bit that stays, and a little more where that bit is odd: ties go to even.
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(STORED[dtype])


def parameter(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The weights of a parameter; norms are ones."""
    return stored(name, shape, "float32").astype(np.float32)


def stored(name: str, shape: tuple[int, ...], dtype: DType) -> NDArray[Any]:
    """Makes a parameter in the form that a file has; of bfloat16 the bits."""
    if len(shape) == 1:
        return np.full(shape, _of_float32(np.array([SCALES[kind_of(name)]], np.float32), dtype)[0])
    return _table(SCALES[kind_of(name)], dtype)[random_bytes(name, shape)]


def random_bytes(name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """What a matrix is made of."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    count = math.prod(shape)
    raw = np.random.PCG64(seed).random_raw(-(-count // 8))
    return raw.astype("<u8", copy=False).view(np.uint8)[:count].reshape(shape)


def kind_of(name: str) -> str:
    """Which of `SCALES` a parameter has."""
    return "norm" if name.endswith("norm.weight") else "matrix"


@lru_cache(maxsize=16)
def _table(scale: float, dtype: DType) -> NDArray[Any]:
    values = (2 * np.arange(256, dtype=np.float32) - 255) * np.float32(scale)
    return _of_float32(values, dtype)


def _of_float32(values: NDArray[np.float32], dtype: DType) -> NDArray[Any]:
    """Exact, or an assertion fails."""
    if dtype == "bfloat16":
        bits = values.view(np.uint32)
        assert not (bits & 0xFFFF).any()
        return (bits >> 16).astype(STORED[dtype])
    converted = values.astype(STORED[dtype])
    assert np.array_equal(converted.astype(np.float32), values)
    return converted


def save_checkpoint(folder: Path, shape: ModelShape) -> Path:
    """A Hugging Face folder in bfloat16 whose tokenizer has one word a token: w3, w4, ..."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = qwen3_config(shape)
    config.save_pretrained(folder)
    tensors = {
        name: torch.from_numpy(stored(name, size, "bfloat16").view(np.int16)).view(torch.bfloat16)
        for name, size in shape.parameters().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    special = ("[PAD]", "[BOS]", "[EOS]")
    words = {special[i] if i < 3 else f"w{i}": i for i in range(shape.vocabulary)}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": word, "special": True}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for i, word in enumerate(special)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[PAD]"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, separators=(",", ":")))
    return folder


def qwen3_config(shape: ModelShape) -> Any:
    """transformers' configuration of the shape."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.ffn,
        max_position_embeddings=32_768,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        architectures=["Qwen3ForCausalLM"],
        dtype="bfloat16",
    )
