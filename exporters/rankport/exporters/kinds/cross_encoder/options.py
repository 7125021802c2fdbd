"""Options of the export of a cross-encoder, beside what every export can."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from rankport.exporters.options.checks import flag_name, require_choice, require_count
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.shared_flags import CUT, MAX_PAIR_TOKENS
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag

Cut = Literal["longest-first", "only-first", "only-second"]
_OF_FRAMES = ("max_pair_tokens", "cut")
_OF_TOKENS = ("labels", "label_ids")
_OF_PROMPTS = (*_OF_TOKENS, "prompt", "max_prefix_tokens", "max_item_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEncoderOptions(ExportOptions):
    """Options of a cross-encoder. By default it is what a CrossEncoder's folder and the tokenizer say."""

    labels: tuple[str, ...] | None = field(
        default=None,
        metadata=flag(
            "Of an encoder-decoder with an LM head (T5): tokens that answer, comma-separated, the positive one first.",
            form="tokens",
        ),
    )
    label_ids: tuple[int, ...] | None = field(
        default=None, metadata=flag("The same as token ids: 9,17. For checkpoints without a tokenizer.")
    )
    positive: str | None = field(
        default=None,
        metadata=flag(
            "The label that a score speaks for, by name or id. [default: the only one, the one named relevant, yes, "
            "true, positive, entailment, or LABEL_1 of two; the first of --labels]",
            metavar="LABEL",
        ),
    )
    score: Literal["probability", "logit"] | None = field(
        default=None,
        metadata=flag(
            "What a score is: probability (softmax over the labels, sigmoid of a single one), or logit. [default: as "
            "the folder's activation says, else probability; logit if the config says regression]",
            metavar="KIND",
        ),
    )
    max_pair_tokens: int | None = field(default=None, metadata=MAX_PAIR_TOKENS)
    max_prefix_tokens: int | None = field(
        default=None,
        metadata=flag("With --prompt: longest prefix the bundle accepts. [default: a quarter of the whole]"),
    )
    cut: Cut = field(default="longest-first", metadata=CUT)

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_choice("score", self.score, ("probability", "logit"))
        require_choice("cut", self.cut, get_args(Cut))
        require_count("max_pair_tokens", self.max_pair_tokens, least=1)
        require_count("max_prefix_tokens", self.max_prefix_tokens, least=1)
        if self.labels is not None and self.label_ids is not None:
            raise InvalidRequest("give --labels or --label-ids, not both")

    def refuse_of_prompts(self, architecture: str) -> None:
        """Raises InvalidRequest for an option of an LM head, whose prompt is any: the tokenizer frames two texts."""
        self._refuse(
            _OF_PROMPTS, f"{architecture} answers by a head over two texts that its tokenizer frames"
        )

    def refuse_of_frames(self, architecture: str) -> None:
        """Raises InvalidRequest for an option of two texts in a frame, where the prompt is any."""
        self._refuse(_OF_FRAMES, f"{architecture} reads a prompt, each text within a limit of its own")

    def refuse_of_tokens(self, architecture: str) -> None:
        """Raises InvalidRequest for an option of an LM head, where the labels are those of a classification head."""
        self._refuse(_OF_TOKENS, f"{architecture} answers by a head with labels of its own")

    def _refuse(self, names: Sequence[str], why: str) -> None:
        given = next((name for name in names if getattr(self, name) != self._default(name)), None)
        if given is None:
            return
        instead = {
            "max_item_tokens": "give --max-pair-tokens",
            "max_prefix_tokens": "give --max-pair-tokens",
            "labels": "--positive says which of its labels scores",
            "label_ids": "--positive says which of its labels scores",
            "max_pair_tokens": "give --max-prefix-tokens and --max-item-tokens",
        }
        value = getattr(self, given)
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        raise InvalidRequest(f"{flag_name(given)} {shown}: {why}: {instead.get(given, 'leave it out')}")

    def _default(self, name: str) -> object:
        return type(self).__dataclass_fields__[name].default
