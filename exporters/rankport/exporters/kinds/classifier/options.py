"""Options of the export of a classifier, beside what every export can."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from rankport.exporters.options.checks import require_choice, require_count
from rankport.exporters.options.options import ExportOptions
from rankport.exporters.options.request_files import RequestFiles, StrPath
from rankport.exporters.options.shared_flags import CUT, MAX_PAIR_TOKENS
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag

Cut = Literal["longest-first", "only-first", "only-second"]
Texts = Literal["one", "pair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierOptions(ExportOptions):
    """Options of a classifier. By default it reads one text, as its folder and tokenizer say."""

    texts: Texts = field(
        default="one",
        metadata=flag("What it reads: one text, or a pair in one sequence.", metavar="one|pair"),
    )
    labels: tuple[str, ...] | None = field(
        default=None,
        metadata=flag(
            "Names of the head's outputs, in order, comma-separated. [default: the folder's]", form="names"
        ),
    )
    judged: StrPath | None = field(
        default=None,
        metadata=flag(
            'JSONL of judged texts: {"text":…, "label":…}, of pairs {"texts":[first, second], "label":…}. NDCG@1 is '
            "then the accuracy."
        ),
    )
    max_pair_tokens: int | None = field(default=None, metadata=MAX_PAIR_TOKENS)
    cut: Cut = field(default="longest-first", metadata=CUT)

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_choice("texts", self.texts, get_args(Texts))
        require_choice("cut", self.cut, get_args(Cut))
        require_count("max_pair_tokens", self.max_pair_tokens, least=1)
        if self.texts == "pair":
            self._check_pair()
        elif self.max_pair_tokens is not None or self.cut != "longest-first":
            raise InvalidRequest(
                "--max-pair-tokens and --cut go with --texts pair; one text has --max-item-tokens"
            )

    @property
    def requests(self) -> RequestFiles:
        """The files of real texts."""
        return RequestFiles(
            self.judged, reference=self.reference, reference_transform=self.reference_transform
        )

    def _check_pair(self) -> None:
        if self.max_item_tokens is not None:
            raise InvalidRequest(
                f"--max-item-tokens {self.max_item_tokens}: with --texts pair both texts are cut together: give "
                "--max-pair-tokens"
            )
        if self.prompt is not None:
            raise InvalidRequest(
                f"--prompt {self.prompt}: with --texts pair the tokenizer frames the two texts: leave it out"
            )
