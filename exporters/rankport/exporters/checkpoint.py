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
_HASHED = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "modules.json",
    "[0-9]_*/config.json",
)
_SLOW_TOKENIZERS = ("vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")


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
    slow = [name for name in _SLOW_TOKENIZERS if (path / name).is_file()]
    if slow and not tokenizer.is_file():
        raise CheckpointError(
            f"checkpoint {str(path)!r} has {slow[0]} and no tokenizer.json: convert it with "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder), or remove it to score by token ids"
        )
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
    """Hash over the names and contents of the files that decide what the model answers, in name order."""
    total = hashlib.sha256()
    for file in sorted(file for pattern in _HASHED for file in path.glob(pattern)):
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{file.relative_to(path).as_posix()}\0{digest}\n".encode())
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
    if (path / "adapter_config.json").is_file():
        raise CheckpointError(
            f"checkpoint {str(path)!r} holds an adapter (adapter_config.json): merge it first"
        )
    try:
        raw = json.loads((path / "config.json").read_text())
        if "quantization_config" in raw:
            method = raw["quantization_config"].get("quant_method", "?")
            raise CheckpointError(
                f"config.json: quantization {method!r} is not supported yet: export the original"
            )
        if "auto_map" in raw and raw.get("model_type") not in transformers.CONFIG_MAPPING:
            raise CheckpointError(
                f"{path / 'config.json'} needs code of its own (auto_map), which is never run"
            )
        config: transformers.PreTrainedConfig = transformers.AutoConfig.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
        return config
    except CheckpointError:
        raise
    except Exception as error:  # config classes validate with exceptions of their own
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
        with _quiet():
            model, info = _AUTO_CLASSES[head].from_pretrained(  # type: ignore[attr-defined]
                path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                attn_implementation="eager",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
            )
    except Exception as error:  # transformers, safetensors and the model's code raise whatever they like
        raise CheckpointError(
            f"cannot load checkpoint {str(path)!r}: {type(error).__name__}: {error}"
        ) from error
    # transformers fills absent tensors with random numbers; a release must not.
    missing = sorted(key for key in info["missing_keys"] if not (head == "none" and ".pooler." in f".{key}"))
    if missing:
        raise CheckpointError(
            f"checkpoint {str(path)!r} lacks tensor {missing[0]!r} ({len(missing)} missing in all)"
        )
    # A bare body is loaded from checkpoints with heads of all kinds; elsewhere a tensor left over is a lost one.
    unexpected = sorted(info["unexpected_keys"])
    if unexpected and head != "none":
        raise CheckpointError(
            f"checkpoint {str(path)!r} holds tensor {unexpected[0]!r} ({len(unexpected)} such in all), which its "
            "config has no place for: the model would run without it"
        )
    if info["mismatched_keys"]:
        name, *shapes = sorted(info["mismatched_keys"])[0]
        raise CheckpointError(f"tensor {name!r} has shape {shapes[0]}, the config expects {shapes[1]}")
    _require_sound_weights(model, path)
    return model.eval()  # type: ignore[no-any-return]


def _require_sound_weights(model: nn.Module, path: Path) -> None:
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"checkpoint {str(path)!r}: tensor {name!r} holds NaN or infinity")
    head, table = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[operator]
    if (
        head is not None
        and getattr(model.config, "tie_word_embeddings", False)
        and head.weight is not table.weight
    ):
        raise CheckpointError(
            f"checkpoint {str(path)!r} ties its LM head to the embeddings and holds a different head beside them: "
            "remove the stray tensor, or set tie_word_embeddings to false"
        )


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
def _quiet() -> Iterator[None]:
    """Keeps transformers' progress bars and load reports out of our output: what matters in them is an error here."""
    chatter = transformers.utils.logging
    shown, verbosity = chatter.is_progress_bar_enabled(), chatter.get_verbosity()
    chatter.disable_progress_bar()  # type: ignore[no-untyped-call]
    chatter.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        chatter.set_verbosity(verbosity)
        if shown:
            chatter.enable_progress_bar()  # type: ignore[no-untyped-call]
