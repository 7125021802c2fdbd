"""Options of the export of a generator, beside what every export can."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

from rankport.exporters.options.checks import require_count
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.presets import CHAT
from rankport.exporters.options.shared_flags import PREFIX_OF_TEXTS, STOP_IDS
from rankport.protos.errors import BundleError, InvalidRequest
from rankport.protos.flags import flag
from rankport.runtime.bundle.strict_json import strict_json

_OF_RENDERING = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "sanitize_control_tokens",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
"""Arguments of transformers' `apply_chat_template` that are none of a template, and those of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorOptions(ExportOptions):
    """Options of a generator, of which `max_item_tokens` is the longest text that it writes.

    Raises InvalidRequest for a target that it is not made for.
    """

    max_prefix_tokens: int | None = field(default=None, metadata=PREFIX_OF_TEXTS)
    stop_ids: tuple[int, ...] | None = field(default=None, metadata=STOP_IDS)

    scores: Literal["whole", "beginning"] | None = field(
        default=None,
        metadata=flag(
            "Have a generator answer scoring requests too, by the log-probability of each item behind the prefix: as a "
            "whole text, its end included, or as the beginning of one. [default: it writes alone]"
        ),
    )

    chat_template_kwargs: str | None = field(
        default=None,
        metadata=flag(
            'With --prompt chat: what the chat template is told, for every chat: {"enable_thinking": false}.',
            metavar="JSON",
        ),
    )
    chat_date: str | None = field(
        default=None,
        metadata=flag(
            "With --prompt chat: the day that a chat template writes (strftime_now), for every chat; one that asks for "
            "it must have it.",
            metavar="YYYY-MM-DD",
        ),
    )

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_count("max_prefix_tokens", self.max_prefix_tokens, least=1)
        for name in ("chat_template_kwargs", "chat_date"):
            if getattr(self, name) is not None and not self.is_chat:
                raise InvalidRequest(
                    f"--{name.replace('_', '-')} goes with --prompt {CHAT}: give that, or leave it out"
                )
        self.chat_arguments()
        self.chat_day()
        if "tensorrt" in self.targets or self.plans:
            raise InvalidRequest(
                f"--target {','.join(self.targets)}: a generator is made for onnx-cpu and onnx-cuda: give one of them, "
                "or both"
            )

    @property
    def is_chat(self) -> bool:
        """True where the folder's chat template is the prompt."""
        return str(self.prompt) == CHAT

    def chat_arguments(self) -> Mapping[str, Any]:
        """Reads what the chat template is told. Raises InvalidRequest for what is no object, or what an export says."""
        if self.chat_template_kwargs is None:
            return {}
        try:
            told = strict_json(self.chat_template_kwargs.encode(), "--chat-template-kwargs")
        except BundleError as error:
            raise InvalidRequest(f'{error}: give an object, {{"enable_thinking": false}}') from error
        for name in _OF_RENDERING & set(told):
            raise InvalidRequest(f"--chat-template-kwargs: {name} is said by every chat: leave it out")
        return told

    def chat_day(self) -> date | None:
        """Reads the day that the chat template is told. Raises InvalidRequest for what is none."""
        if self.chat_date is None:
            return None
        try:
            return date.fromisoformat(self.chat_date)
        except ValueError:
            raise InvalidRequest(f"--chat-date {self.chat_date!r:.40}: give a day as YYYY-MM-DD") from None
