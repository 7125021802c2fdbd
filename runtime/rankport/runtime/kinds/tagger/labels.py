"""`LabelScheme`: what the names of a tagger's labels say of spans. Owns the reading of B-, I-, E-, S-, L-, U- and O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.bundle.sections.tagging import Scheme

Part = Literal["first", "inner", "last", "single"]
PARTS: tuple[Part, ...] = get_args(Part)
OUTSIDE = "O"
_PREFIXED = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
_UNNAMED = re.compile(r"LABEL_\d+")
_MISSPELLED = re.compile(
    r"(?P<begin>[bi])[-_:./ ](?P<kind>.+)|(?P<type>.+)[-_:./ ](?P<end>[bi])", re.DOTALL | re.I
)
_SCHEMES: tuple[tuple[Scheme, frozenset[str]], ...] = (
    ("IO", frozenset("I")),
    ("BIO", frozenset("BI")),
    ("BIOES", frozenset("BIES")),
    ("BILOU", frozenset("BILU")),
)
_SINGLE, _LAST = {"BIOES": "S", "BILOU": "U"}, {"BIOES": "E", "BILOU": "L"}


def _refuse_misspelled(names: Sequence[str]) -> None:
    """Raises ValueError for b-city beside i-city, B_city beside I_city, city-B beside city-I: each would be a type."""
    found = dict[tuple[str, str], str]()
    for name in names:
        if (match := _MISSPELLED.fullmatch(name)) is None:
            continue
        part, kind = (match["begin"] or match["end"]).upper(), match["kind"] or match["type"]
        other = found.get(("I" if part == "B" else "B", kind))
        if other is not None:
            raise ValueError(
                f"{other!r} and {name!r} look like parts of a span: spell them B-{kind} and I-{kind}"
            )
        found[part, kind] = name


@dataclass(frozen=True, slots=True)
class LabelScheme:
    """Labels by their part in a span. Make it with `of`."""

    scheme: Scheme
    names: tuple[str, ...]  # [labels]
    types: tuple[str, ...]  # without prefixes, in the order of their first label
    type_of: NDArray[np.int64]  # [labels] place in `types`; -1: outside of spans
    opens: NDArray[np.bool_]  # [labels] begins a span whatever stands before
    closes: NDArray[np.bool_]  # [labels] ends one whatever follows

    @classmethod
    def of(cls, names: Sequence[str]) -> "LabelScheme":
        """Tells the scheme from the names. Raises ValueError naming the label that fits none."""
        inside = [name for name in names if name != OUTSIDE]
        if not inside:
            raise ValueError(f"{list(names)} name no span: there must be a label beside {OUTSIDE}")
        unnamed = next((name for name in inside if _UNNAMED.fullmatch(name)), None)
        if unnamed is not None:
            raise ValueError(
                f"{unnamed!r} says nothing: give each label its name, such as B-city, I-city and {OUTSIDE}"
            )
        parts = {name: match for name in inside if (match := _PREFIXED.fullmatch(name))}
        if not parts:
            _refuse_misspelled(inside)
            return cls._plain(names)
        other = next((name for name in inside if name not in parts), None)
        if other is not None:
            raise ValueError(
                f"{other!r} is neither {OUTSIDE} nor prefixed as {next(iter(parts))!r} is: rename it, or the others"
            )
        return cls._of_prefixes(names, {name: (match[1], match[2]) for name, match in parts.items()})

    @classmethod
    def _plain(cls, names: Sequence[str]) -> "LabelScheme":
        """Takes names without prefixes: with an outside label spans, without one a tag a word."""
        types = tuple(dict.fromkeys(name for name in names if name != OUTSIDE))
        apart = OUTSIDE not in names
        alone = np.full(len(names), apart)
        kinds = np.array([-1 if name == OUTSIDE else types.index(name) for name in names], np.int64)
        return cls("each" if apart else "IO", tuple(names), types, kinds, alone, alone)

    @classmethod
    def _of_prefixes(cls, names: Sequence[str], parts: dict[str, tuple[str, str]]) -> "LabelScheme":
        prefixes = {prefix for prefix, _ in parts.values()}
        scheme = next((scheme for scheme, allowed in _SCHEMES if prefixes <= allowed), None)
        if scheme is None:
            raise ValueError(f"the prefixes {sorted(prefixes)} are of no one scheme: BIO, BIOES, BILOU or IO")
        types = tuple(dict.fromkeys(kind for _, kind in parts.values()))
        own = [parts.get(name, ("", "")) for name in names]
        return cls(
            scheme,
            tuple(names),
            types,
            np.array([types.index(kind) if prefix else -1 for prefix, kind in own], np.int64),
            np.array([prefix in ("B", "S", "U") for prefix, _ in own]),
            np.array([prefix in ("E", "S", "L", "U") for prefix, _ in own]),
        )

    @property
    def tag_names(self) -> tuple[str, ...]:
        """Spellings of all tags that spans can be written in, `O` first. Some may be no label of the model."""
        return (OUTSIDE, *(self.spelled(prefix, kind) for kind in self.types for prefix in self._prefixes))

    @property
    def tag_places(self) -> tuple[int, ...]:
        """Places, among one type's spellings, of the tag of a first, an inner, a last and a single unit."""
        return tuple(self._prefixes.index(self.prefix(part)) for part in PARTS)

    def prefix(self, part: Part) -> str:
        """Gives the prefix of a part of a span: first, inner, last or single; "" where names have none."""
        if self.scheme == "each" or (self.scheme == "IO" and self._is_bare):
            return ""
        if self.scheme == "IO":
            return "I"
        if part == "single":
            return _SINGLE.get(self.scheme, "B")
        if part == "last":
            return _LAST.get(self.scheme, "I")
        return "B" if part == "first" else "I"

    def spelled(self, prefix: str, kind: str) -> str:
        """Spells a label."""
        return f"{prefix}-{kind}" if prefix else kind

    def column(self, part: Part, kind: str) -> int | None:
        """Finds the label of a part of a span of one type; None where the model has none."""
        name = self.spelled(self.prefix(part), kind)
        return self.names.index(name) if name in self.names else None

    @property
    def _is_bare(self) -> bool:
        return self.types[0] in self.names

    @property
    def _prefixes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(self.prefix, PARTS)))
