"""A Hugging Face checkpoint folder as an exportable model: loaded offline, from safetensors only, in fp32.

Owns what is read from disk and its hash. Never runs code from the folder, never unpickles.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import transformers
from safetensors import safe_open
from torch import nn

from rankport.protos.errors import CheckpointError

HeadKind = Literal["lm_head", "classification_head", "none"]
_HASHED_SUFFIXES = (".json", ".safetensors", ".txt", ".model")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model and where it came from."""

    path: Path
    model: nn.Module  # fp32, eval mode, on the CPU, eager attention
    head: HeadKind
    architecture: str
    model_type: str
    dtype: str  # of the stored tensors
    parameters: int
    sha256: str
    tokenizer_file: Path | None
    vocab_size: int
    hidden_size: int


def load_checkpoint(path: Path, *, headless: bool = False) -> Checkpoint:
    """Loads a folder with config.json and safetensors. `headless` loads the bare encoder or decoder body.

    Raises CheckpointError naming the file, field or tensor at fault.
    """
    config = _read_config(path)
    architecture = str((config.architectures or ["?"])[0])
    head: HeadKind = "none" if headless else _head_kind(architecture)
    model = _load_model(path, head)
    text_config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    tokenizer = path / "tokenizer.json"
    return Checkpoint(
        path=path,
        model=model,
        head=head,
        architecture=architecture,
        model_type=str(config.model_type),
        dtype=_stored_dtype(path),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        sha256=checkpoint_sha256(path),
        tokenizer_file=tokenizer if tokenizer.is_file() else None,
        vocab_size=int(model.get_input_embeddings().num_embeddings),  # type: ignore[operator]
        hidden_size=int(text_config.hidden_size),
    )


def checkpoint_sha256(path: Path) -> str:
    """Hash over the names and contents of the folder's config, weights and tokenizer files, in name order."""
    total = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.is_file() and file.suffix in _HASHED_SUFFIXES:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            total.update(f"{file.name}\0{digest}\n".encode())
    return total.hexdigest()


def _read_config(path: Path) -> transformers.PreTrainedConfig:
    if not path.is_dir():
        raise CheckpointError(
            f"checkpoint {str(path)!r} is not a folder: give a Hugging Face checkpoint on disk"
        )
    if not (path / "config.json").is_file():
        raise CheckpointError(f"checkpoint {str(path)!r} has no config.json")
    if not list(path.glob("*.safetensors")):
        raise CheckpointError(
            f"checkpoint {str(path)!r} has no *.safetensors: pickled weights are never loaded, "
            "convert them with save_pretrained(safe_serialization=True)"
        )
    try:
        raw = json.loads((path / "config.json").read_text())
        if "auto_map" in raw and raw.get("model_type") not in transformers.CONFIG_MAPPING:
            raise CheckpointError(
                f"{path / 'config.json'} needs code of its own (auto_map), which is never run"
            )
        config: transformers.PreTrainedConfig = transformers.AutoConfig.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
        return config
    except (ValueError, OSError, KeyError) as error:
        raise CheckpointError(f"cannot read {path / 'config.json'}: {error}") from error


def _head_kind(architecture: str) -> HeadKind:
    if architecture.endswith("ForSequenceClassification"):
        return "classification_head"
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "lm_head"
    raise CheckpointError(
        f"config.json says architecture {architecture!r}: a ranker is a ...ForCausalLM or "
        "...ForSequenceClassification decoder (use --kind item-encoder for a bare encoder)"
    )


_AUTO_CLASSES: dict[HeadKind, type] = {
    "lm_head": transformers.AutoModelForCausalLM,
    "classification_head": transformers.AutoModelForSequenceClassification,
    "none": transformers.AutoModel,
}


def _load_model(path: Path, head: HeadKind) -> nn.Module:
    try:
        with _no_progress_bar():
            model, info = _AUTO_CLASSES[head].from_pretrained(  # type: ignore[attr-defined]
                path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
            )
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"cannot load checkpoint {str(path)!r}: {error}") from error
    # transformers fills absent tensors with random numbers; a release must not.
    missing = sorted(key for key in info["missing_keys"] if not (head == "none" and ".pooler." in f".{key}"))
    if missing:
        raise CheckpointError(
            f"checkpoint {str(path)!r} lacks tensor {missing[0]!r} ({len(missing)} missing in all)"
        )
    if info["mismatched_keys"]:
        name, *shapes = sorted(info["mismatched_keys"])[0]
        raise CheckpointError(f"tensor {name!r} has shape {shapes[0]}, the config expects {shapes[1]}")
    return model.eval()  # type: ignore[no-any-return]


def _stored_dtype(path: Path) -> str:
    """The most frequent dtype of the stored tensors, in torch's naming."""
    counts: dict[str, int] = {}
    for file in path.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - safe_open is no mapping
                part = tensors.get_slice(name)
                size = 1
                for dim in part.get_shape():
                    size *= dim
                counts[part.get_dtype()] = counts.get(part.get_dtype(), 0) + size
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    dominant = max(counts, key=lambda key: counts[key])
    return names.get(dominant, dominant.lower())


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """transformers draws one for every load, whoever's terminal it is."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()  # type: ignore[no-untyped-call]
