"""`Setting`: a value that a server is started with, and who said it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """Value of a flag, and where it is from: the flag, the variable, the file, or "default"."""

    key: str
    value: Any
    source: str
