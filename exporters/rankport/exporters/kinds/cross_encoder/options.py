"""Options of the export of a cross-encoder, beside what every export can."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from rankport.exporters.options.options import ExportOptions, require_choice, require_count
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag

Cut = Literal["longest-first", "only-first", "only-second"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEncoderOptions(ExportOptions):
    """Options of a cross-encoder. By default it is what a CrossEncoder's folder and the tokenizer say."""

    positive: str | None = field(
        default=None,
        metadata=flag(
            "The label that a score speaks for, by name or id. [default: the only one, the one named relevant, yes, "
            "true, positive, entailment, or LABEL_1 of two]",
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
    max_pair_tokens: int | None = field(
        default=None,
        metadata=flag(
            "Longest pair the bundle accepts, special tokens included. [default: the folder's, within the positions]"
        ),
    )
    cut: Cut = field(
        default="longest-first",
        metadata=flag(
            "Which text of a pair that is too long gives way where a cut is asked for: longest-first, only-first (the "
            "prefix) or only-second (the item).",
            metavar="WHICH",
        ),
    )

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_choice("score", self.score, ("probability", "logit"))
        require_choice("cut", self.cut, get_args(Cut))
        require_count("max_pair_tokens", self.max_pair_tokens, least=1)
        if self.max_item_tokens is not None:
            raise InvalidRequest(
                f"--max-item-tokens {self.max_item_tokens}: a cross-encoder cuts both texts together: give "
                "--max-pair-tokens"
            )
        if self.prompt is not None:
            raise InvalidRequest(
                f"--prompt {self.prompt}: a cross-encoder's two texts are framed by its tokenizer: leave it out"
            )
