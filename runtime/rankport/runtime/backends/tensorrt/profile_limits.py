"""Largest passes that plans are built for: by default, those of an engine without a word from the user."""

from dataclasses import dataclass

from rankport.protos.errors import InvalidRequest
from rankport.runtime.config import DEFAULTS

_LEAST = {"max_batch_tokens": 1, "max_prefixes": 1, "max_padding_ratio": 1.0}


@dataclass(frozen=True, slots=True)
class ProfileLimits:
    """The largest passes that plans are built for. Raises `InvalidRequest` for a value out of range."""

    max_batch_tokens: int = (
        DEFAULTS.max_batch_tokens
    )  # real tokens of a pass; a longer item or prefix goes alone
    max_prefixes: int = 8  # in one pass
    max_padding_ratio: float = DEFAULTS.max_padding_ratio  # padded layout / real tokens

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise InvalidRequest(f"{name} is {getattr(self, name)}: it must be at least {least}")
