"""Messages of a chat by which a folder reads a text or a pair: one of each role, for its chat template."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rankport.exporters.checkpoints.sentence_transformers.settings import Settings

_FORMATS = ("flat", "structured")
_OF_LIMITS = ("truncation", "max_length", "padding", "tokenize", "return_dict", "return_tensors")
_RESTORE = "restore_suffix"  # of sentence-transformers: what stands behind a text outlives a cut


@dataclass(frozen=True, slots=True)
class ChatMessages:
    """Form of the messages that texts become, and what the template is told beside them."""

    structured: bool  # content is a list of parts with a type each, not a text
    arguments: Mapping[str, Any]  # of the template, by name
    restores_suffix: bool  # whether what stands behind a text that is cut is put at its end again

    def of(self, texts: Mapping[str, str]) -> list[dict[str, Any]]:
        """Makes a message of each role, in order; of `system`, which is a prompt, where it is not empty."""
        return [
            {"role": role, "content": [{"type": "text", "text": text}] if self.structured else text}
            for role, text in texts.items()
            if text or role != "system"
        ]


def chat_messages(settings: Settings) -> ChatMessages | None:
    """Takes the settings beside a transformer; None where nothing is a message.

    Raises CheckpointError for a form of messages, or an argument, that cannot be exported.
    """
    modalities = settings.value("modality_config")
    stated = modalities.get("message") if isinstance(modalities, dict) else None
    if not isinstance(stated, dict):
        return None
    form = stated.get("format")
    if form not in _FORMATS:
        raise settings.error("modality_config.message.format", form, f"must be {' or '.join(_FORMATS)}")
    processing = settings.part("processing_kwargs")
    arguments = processing.value("chat_template") or {}
    if not isinstance(arguments, dict):
        raise processing.error("chat_template", arguments, "must be an object")
    processing.finish("only chat_template can be exported: set max_seq_length to cut texts")
    for name in _OF_LIMITS:
        if name in arguments:
            raise processing.error(f"chat_template.{name}", arguments[name], "cannot be exported: remove it")
    restores = arguments.get(_RESTORE, True)
    if not isinstance(restores, bool):
        raise processing.error(f"chat_template.{_RESTORE}", restores, "must be true or false")
    told = {name: value for name, value in arguments.items() if name != _RESTORE}
    return ChatMessages(form == "structured", told, restores)
