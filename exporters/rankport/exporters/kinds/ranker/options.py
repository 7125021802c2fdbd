"""Options of the export of a ranker, beside what every export can."""

from dataclasses import dataclass, field
from typing import Literal

from rankport.exporters.options.checks import require_choice, require_count
from rankport.exporters.options.options import RequestOptions
from rankport.exporters.options.request_files import StrPath
from rankport.exporters.options.shared_flags import EMBEDDING_TOKENS, ITEM_ENCODER
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerOptions(RequestOptions):
    """Options of a ranker. Raises InvalidRequest for one that contradicts another."""

    labels: tuple[str, ...] | None = field(
        default=None,
        metadata=flag(
            "Tokens that answer, comma-separated, the positive one first: yes,no. Blanks at their ends are left out, "
            "but where all begin with one, which is then of the tokens: ' yes, no'.",
            form="tokens",
        ),
    )
    label_ids: tuple[int, ...] | None = field(
        default=None,
        metadata=flag("The same as token ids: 9,17. For checkpoints without a tokenizer."),
    )
    positive: str | None = field(
        default=None,
        metadata=flag(
            "The label that a score speaks for, by name or id. [default: the first of --labels; of a classification "
            "head the one named relevant, yes, true, positive, entailment, or LABEL_1 of two]",
            metavar="LABEL",
        ),
    )
    score: Literal["probability", "logit"] | None = field(
        default=None,
        metadata=flag(
            "What a score is: probability (softmax over the labels, sigmoid of a single one), or logit (log-odds, or "
            "the single one as it is). [default: probability; logit if the config says regression]",
            metavar="KIND",
        ),
    )
    item_encoder: StrPath | None = field(default=None, metadata=ITEM_ENCODER)
    embedding_tokens: int | None = field(default=None, metadata=EMBEDDING_TOKENS)
    # Default: up to 1,024 within the checkpoint's positions.
    max_prefix_tokens: int | None = field(
        default=None,
        metadata=flag(
            "Longest prefix the bundle accepts. [default: as the folder says, within the positions; else at most 1024, "
            "of a seq2seq 512]"
        ),
    )
    graphs: Literal["joint", "separate"] | None = field(
        default=None,
        metadata=flag(
            "joint has one packed copy of the weights in memory, separate saves the last block's attention in a "
            "prefill. [default: joint if low-bit]",
            metavar="HOW",
        ),
    )
    attention: Literal["shared", "fused", "grouped"] | None = field(
        default=None,
        metadata=flag(
            "Of a graph for onnx-cuda: fused is one kernel, for which the prefix's KV is repeated in each row of "
            "items; shared is products that read it once; grouped is fused and, for texts under ONNX Runtime 1.32 or "
            "later, a second graph whose kernel rotates and normalizes too (fp16, bf16). "
            "[default: fused; soft-capped models: shared]",
            metavar="HOW",
        ),
    )

    def __post_init__(self) -> None:
        RequestOptions.__post_init__(self)
        if self.labels is not None and self.label_ids is not None:
            raise InvalidRequest("give --labels or --label-ids, not both")
        if self.embedding_tokens is not None and self.item_encoder is None:
            raise InvalidRequest("--embedding-tokens goes with --item-encoder, whose tokens they are")
        require_choice("score", self.score, ("probability", "logit"))
        require_choice("graphs", self.graphs, ("joint", "separate"))
        require_choice("attention", self.attention, ("shared", "fused", "grouped"))
        if self.attention == "grouped":
            self._check_grouped()
        if self.attention is not None and "onnx-cuda" not in self.targets:
            raise InvalidRequest("--attention goes with --target onnx-cuda: other graphs have one form of it")
        require_count("max_prefix_tokens", self.max_prefix_tokens, least=0)
        require_count("embedding_tokens", self.embedding_tokens, least=1)

    def _check_grouped(self) -> None:
        if self.precision not in ("fp16", "bf16"):
            raise InvalidRequest(
                "--attention grouped goes with --precision fp16 or bf16: its kernel has no fp32"
            )
        if self.item_encoder is not None:
            raise InvalidRequest(
                "--attention grouped is for texts, an item a row: of embedding tokens many share one, leave it out"
            )

    @property
    def fused_attention(self) -> bool:
        """True where one kernel attends to prefix and own tokens, with the prefix's KV repeated for each row."""
        return self.attention in (None, "fused", "grouped")

    @property
    def heads_by_group(self) -> bool:
        """True where query heads stand by group if the model allows: the operator of `grouped` wants them otherwise."""
        return "onnx-cuda" in self.targets and self.attention in (None, "fused")
