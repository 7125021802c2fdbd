"""Options of the export of an item encoder, beside what every export can."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from rankport.exporters.options.checks import require_choice, require_count
from rankport.exporters.options.options import ExportOptions
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from rankport.runtime.bundle.manifest import Pooling


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemEncoderOptions(ExportOptions):
    """Options of an item encoder. By default it is what a sentence-transformers folder says."""

    prompt_name: str | None = field(
        default=None,
        metadata=flag(
            "Prompt of a sentence-transformers folder to put before each item; of a folder with an adapter for each "
            "task (jina-embeddings-v3) the task. [default: its default_prompt_name]"
        ),
    )
    pooling: Pooling | None = field(
        default=None,
        metadata=flag(
            "Hidden states that become tokens: last-k, cls, mean, max, mean-sqrt-len or weighted-mean. [default: as "
            "the folder says]",
            metavar="HOW",
        ),
    )
    tokens: int | None = field(default=None, metadata=flag("k of last-k pooling. [default: 1]"))
    normalize: bool | None = field(
        default=None, metadata=flag("Unit length for each token. [default: as the folder says, else not]")
    )
    output_dtype: Literal["float16", "float32"] | None = field(
        default=None, metadata=flag("float16 or float32 tokens. [default: float16]", metavar="DTYPE")
    )

    @property
    def task(self) -> str | None:
        """Task of the prompt that is named."""
        return self.prompt_name

    def __post_init__(self) -> None:
        ExportOptions.__post_init__(self)
        require_choice("pooling", self.pooling, get_args(Pooling))
        if self.prompt is not None and self.prompt_name is not None:
            raise InvalidRequest(
                f"--prompt {self.prompt} and --prompt-name {self.prompt_name} contradict each other: give one of them"
            )
        require_count("tokens", self.tokens, least=1)
