"""The word of a checkpoint folder on its prompt: a chat template, or a family of rerankers that it is of.

Reads small files alone, so that an export without a prompt stops before a model is loaded.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rankport.exporters.options.presets import (
    BARE,
    PRESET_WORDS,
    Preset,
    pair_encoder_problem,
    preset_for,
)
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.protos.files.json_text import json_of_text

_TEMPLATES = ("chat_template.jinja", "additional_chat_templates/*.jinja")
_CONFIGS = ("tokenizer_config.json", "chat_template.json", "processor_config.json")
_NAMING = {"config.json": "_name_or_path", "adapter_config.json": "base_model_name_or_path"}
_CARD_CHARACTERS = 2000
_UNKNOWN_WORDS = f"write it as a prompt file, or name a preset: {PRESET_WORDS}"


def chat_template_file(folder: Path) -> Path | None:
    """Finds the file of a checkpoint folder that holds a chat template. Raises CheckpointError for a damaged one."""
    for pattern in _TEMPLATES:
        for file in sorted(folder.glob(pattern)):
            return file
    for name in _CONFIGS:
        # A text, or a list of named ones.
        if _read(folder / name).get("chat_template"):
            return folder / name
    return None


def require_prompt(checkpoint: Path, folders: Sequence[Path], own: str = "") -> None:
    """Stops the export of a ranker without a prompt where its folder says that it has one.

    Args:
        checkpoint: folder to export.
        folders: those that speak for it: itself, and an adapter's base.
        own: what takes the chat template itself, in words.

    Raises:
        InvalidRequest: it has a chat template, or is of a known family; the message has the fix.
        CheckpointError: a file that would say so cannot be read.
    """
    if not checkpoint.is_dir():
        return  # whoever loads it says what it is
    preset, encoder = stated_preset(folders), pair_encoder_problem(_all_names(folders))
    template = next(filter(None, map(chat_template_file, folders)), None)
    if preset is not None:
        why, fix = f"is of the family {preset.models}", f"--prompt {preset.name} is its published prompt"
    elif encoder:
        raise InvalidRequest(
            f"checkpoint {str(checkpoint)!r}: {encoder}; for a decoder of that name say its --prompt"
        )
    elif template is not None:
        why, fix = (
            f"has a chat template ({template.name})",
            f"say the prompt that it was trained with: {own}{_UNKNOWN_WORDS}",
        )
    else:
        return
    raise InvalidRequest(
        f"checkpoint {str(checkpoint)!r} {why}, and bare text would score otherwise: {fix}; or say --prompt {BARE} if "
        "it was trained on bare text"
    )


def stated_preset(folders: Sequence[Path]) -> Preset | None:
    """Finds the family of rerankers that a checkpoint's folders name. Raises CheckpointError for a damaged file."""
    cards = " ".join(map(_card, folders))
    return preset_for(f"{_all_names(folders)} {cards}")


def _all_names(folders: Sequence[Path]) -> str:
    return " ".join(name for folder in folders for name in _names(folder))


def _names(folder: Path) -> Iterator[str]:
    """Lists what a folder calls its model."""
    yield folder.resolve().name
    for file, key in _NAMING.items():
        yield str(_read(folder / file).get(key, ""))


def _card(folder: Path) -> str:
    """Reads the head of a model card, which names its model or its base; comparisons with others come later."""
    card = folder / "README.md"
    return card.read_text(encoding="utf-8", errors="replace")[:_CARD_CHARACTERS] if card.is_file() else ""


def _read(file: Path) -> dict[str, object]:
    """Reads a JSON object; an empty one where there is no file."""
    if not file.is_file():
        return {}
    try:
        content = json_of_text(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not readable JSON: {error}") from error
    return content if isinstance(content, dict) else {}
