"""`PublishedLayout`: the names that published code has for the fields and tensors of a class of transformers."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from rankport.protos.errors import CheckpointError

Fields = Mapping[str, Any]
"""Contents of config.json."""
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


@dataclass(frozen=True, slots=True)
class TensorRow:
    """Stored tensors that a pattern matches, and the places of their parts, which lie one below the other."""

    pattern: re.Pattern[str]
    places: tuple[str, ...]  # `{0}` is the first group of the pattern; none of tensors that are left out
    order: tuple[int, ...] | None = None  # of the stored rows, before parts are taken; None: as stored


@dataclass(frozen=True, slots=True)
class TensorNames:
    """Names of tensors: what no row matches keeps its own, without the prefix."""

    prefix: str  # of the body inside a model with a head
    rows: tuple[TensorRow, ...]

    def places(self, stored: str) -> tuple[str, ...]:
        """Lists the places of a stored tensor's parts in the class of transformers."""
        found = self._row(stored)
        return (stored.removeprefix(self.prefix),) if found is None else found[1]

    def order(self, stored: str) -> tuple[int, ...] | None:
        """Gives the order in which a stored tensor's rows are to be read; None: as they are stored."""
        found = self._row(stored)
        return None if found is None else found[0].order

    def _row(self, stored: str) -> tuple[TensorRow, tuple[str, ...]] | None:
        name = stored.removeprefix(self.prefix)
        for row in self.rows:
            match = row.pattern.fullmatch(name)
            if match is not None:
                return row, tuple(place.format(*match.groups()) for place in row.places)
        return None


def tensor_names(
    prefix: str,
    rows: Mapping[str, str | tuple[str, ...]],
    orders: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> TensorNames:
    """Makes names of patterns and places, and orders of rows by pattern."""
    made = ((pattern, (place,) if isinstance(place, str) else place) for pattern, place in rows.items())
    return TensorNames(
        prefix,
        tuple(TensorRow(re.compile(pattern), places, orders.get(pattern)) for pattern, places in made),
    )


@dataclass(frozen=True, slots=True)
class TaskAdapters:
    """Low-rank adapters that a folder has for its tasks, each a row of the tensors beside a weight."""

    names: tuple[str, ...]
    instructions: Mapping[str, str]  # text that is put before an item, by task
    rank: int
    scaling: float  # of what is added to a weight

    def place(self, task: str | None) -> int:
        """Finds a task among them. Raises CheckpointError for none, and for one that there is not."""
        if task in self.names:
            return self.names.index(task)
        said = "has an adapter for each of its tasks" if task is None else f"has no adapter for {task!r}"
        raise CheckpointError(
            f"config.json: the checkpoint {said}, and a bundle holds one: name it with --prompt-name, one of "
            f"{', '.join(self.names)} (lora_adaptations)"
        )


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A folder's model in the words of transformers: its config, and how its tensors are to be called."""

    raw: dict[str, Any]
    tensors: TensorNames
    notes: tuple[str, ...] = ()
    adapters: TaskAdapters | None = None
    classes: frozenset[str] = frozenset()  # of transformers that are some class of the code


@dataclass(frozen=True, slots=True)
class FieldTable:
    """Fields of a published config.json, by what becomes of them; others are passed on, and looked at as any."""

    needed: Collection[str]  # the code has another default for them than transformers
    renamed: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    values: Mapping[str, tuple[object, ...]] = field(default_factory=lambda: MappingProxyType({}))
    unread: Collection[str] = ()  # change nothing that is computed
    foreign: Collection[str] = ()  # are read by transformers' class alone: refused where they say something

    def translate(self, raw: Fields, code: str) -> dict[str, Any]:
        """Makes fields of transformers' class. Raises CheckpointError naming one that cannot be said there.

        `values` of a field are those at which the code computes what transformers' class does; it is left out then.
        """
        missing = next((name for name in self.needed if raw.get(name) is None), None)
        if missing is not None:
            raise CheckpointError(
                f"config.json: {missing} is missing, for which {code} and transformers have different defaults: state "
                "it as the model was trained"
            )
        taken: dict[str, Any] = {}
        for name, value in raw.items():
            self._check(name, value, code)
            if name in self.values or name in self.unread or name in self.foreign:
                continue
            to = self.renamed.get(name, name)
            if to in taken and taken[to] != value:
                raise CheckpointError(
                    f"config.json: {name} is {value!r} and {to} is {taken[to]!r}, which are one field: remove the "
                    "wrong one"
                )
            taken[to] = value
        return taken

    def _check(self, name: str, value: object, code: str) -> None:
        if name in self.foreign and value not in (None, False):
            raise CheckpointError(
                f"config.json: field {name!r} is {value!r:.60}, which {code} does not read, and transformers would: "
                "remove it"
            )
        allowed = self.values.get(name)
        if allowed is not None and value not in allowed:
            known = " or ".join(map(repr, allowed))
            raise CheckpointError(
                f"config.json: field {name!r} is {value!r:.60}: of {code} only {known} is what transformers' class "
                "computes, and the code itself is never run: the model cannot be exported"
            )


@dataclass(frozen=True, slots=True)
class PublishedLayout:
    """One layout: how it is known, and how a folder of it is read."""

    code: str  # the repository of the code, by which people know it
    auto_classes: frozenset[str]  # that an auto_map of such a folder names
    matches: Callable[[Fields, Collection[str]], bool]  # by config.json and the names of the stored tensors
    read: Callable[[Fields], PublishedModel]
    takes_adapters: bool = (
        False  # of peft, merged by the names of its code, in which BERT's are those of the table
    )

    def has_code(self, auto_map: object) -> bool:
        """Tells whether an auto_map names this layout's own classes alone, whatever repository they come from."""
        return isinstance(auto_map, Mapping) and set(_classes(auto_map)) <= self.auto_classes


def _classes(auto_map: Mapping[str, object]) -> Iterator[str]:
    for stated in auto_map.values():
        for name in stated if isinstance(stated, list) else [stated]:
            yield str(name).rpartition(".")[2]


def renamed_class(raw: Fields, classes: Mapping[str, str], code: str) -> list[str]:
    """Names the class of transformers that config.json asks for. Raises CheckpointError for one that there is not."""
    names = raw.get("architectures") or []
    if not names:
        return []
    if names[0] not in classes:
        known = ", ".join(classes)
        raise CheckpointError(
            f"config.json: architectures names {names[0]!r} of {code}, which transformers has under no name: there are "
            f"{known}"
        )
    return [classes[names[0]]]


def number_of(raw: Fields, name: str) -> float:
    """Reads a field that is a number above 0. Raises CheckpointError for anything else."""
    value = raw.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise CheckpointError(
            f"config.json: {name} is {value!r:.60}, must be a number above 0: state it as the model was trained"
        )
    return float(value)


def padded_vocabulary(raw: Fields) -> dict[str, Any]:
    """Rounds vocab_size up as the code does where `pad_vocab_size_multiple` says so."""
    size, multiple = raw.get("vocab_size"), raw.get("pad_vocab_size_multiple")
    if not isinstance(size, int) or not isinstance(multiple, int) or multiple < 1:
        return {}
    return {"vocab_size": -(-size // multiple) * multiple}
