"""Largest passes that plans are built for: by default, those of an engine without a word from the user."""

from dataclasses import dataclass, field

from rankport.protos.flags import flag, in_range
from rankport.runtime.config import DEFAULTS
from rankport.runtime.options import check_ranges


@dataclass(frozen=True, slots=True)
class ProfileLimits:
    """Largest passes that plans are built for. Raises `InvalidRequest` for a value out of range."""

    # Real tokens of a pass; a longer item or prefix goes alone.
    max_batch_tokens: int = field(
        default=DEFAULTS.max_batch_tokens,
        metadata=flag("Most tokens of items in one pass: what `rankport serve` is told, or more.", least=1),
    )
    max_prefixes: int = field(default=8, metadata=flag("Most prefixes in one pass.", least=1))
    # Largest padded layout of a pass, as a multiple of its real tokens.
    max_padding_ratio: float = field(default=DEFAULTS.max_padding_ratio, metadata=in_range(least=1.0))

    def __post_init__(self) -> None:
        check_ranges(self)
