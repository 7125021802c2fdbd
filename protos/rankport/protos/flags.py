"""Words by which a field of an options dataclass is told to people: as a flag of a command, with its help.

Commands make their flags of the fields, so that an option stands once: name, type, default and help. Owns the words
that a field may say; what a command line makes of them, `sdk.cli.flags.dataclass_options` knows.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypedDict, Unpack

Form = Literal["size", "gpus", "repeat", "tokens", "names"]
"""Ways to write a value where its type does not say it: `4GiB`; numbers of GPUs (`0,1` or `all`); a flag a value; words
with commas that an export splits, of tokens, whose blanks may count, and others."""


class Words(TypedDict, total=False):
    """Words of a flag beside its help."""

    metavar: str  # stands for the value
    panel: str  # heads the flags that it belongs to, in the help
    form: Form
    name: str  # of the flag, where it is not the field's
    least: float
    most: float
    hide_default: bool  # the help says it, or there is nothing to say
    needs: str  # name of the field without which it says nothing


def in_range(*, least: float | None = None, most: float | None = None) -> Mapping[str, object]:
    """Makes the metadata of a dataclass's field that has a range, and no flag."""
    return MappingProxyType({"least": least, "most": most})


def flag(help: str, **words: Unpack[Words]) -> Mapping[str, object]:
    """Makes the metadata of a dataclass's field that is a flag: `field(default=1, metadata=flag("Most items."))`."""
    return MappingProxyType({"help": help, **words})
