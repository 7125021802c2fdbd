"""Messages of a chat by which a CrossEncoder's folder reads a pair: one of each role, for its chat template."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rankport.exporters.checkpoints.sentence_transformers.settings import Settings

_FORMATS = ("flat", "structured")
_OF_LIMITS = ("truncation", "max_length", "padding", "tokenize", "return_dict", "return_tensors")


@dataclass(frozen=True, slots=True)
class PairMessages:
    """Form of the messages that two texts become, and what the template is told beside them."""

    structured: bool  # content is a list of parts with a type each, not a text
    prompt: str  # of the role `system`; empty: there is no such message
    arguments: Mapping[str, Any]  # of the template, by name

    def of(self, query: str, document: str) -> list[dict[str, Any]]:
        """Makes the messages of a pair."""
        texts = {"system": self.prompt, "query": query, "document": document}
        return [
            {"role": role, "content": [{"type": "text", "text": text}] if self.structured else text}
            for role, text in texts.items()
            if text or role != "system"
        ]


def pair_messages(settings: Settings, prompt: str) -> PairMessages | None:
    """Reads the settings beside a transformer; None where pairs are no messages.

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
    # How sentence-transformers cuts a pair that is too long; here the item gives way.
    told = {name: value for name, value in arguments.items() if name != "restore_suffix"}
    return PairMessages(form == "structured", prompt, told)
