"""`Samples`: texts or embeddings of users, read and checked. Owns who is audited; knows no encoder.

No row is passed over in silence: one that cannot be used ends the audit with its line, for nobody knows whose it was.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rankport.protos.arguments import number_array
from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.files.arrays import UNREADABLE
from rankport.protos.reasons import array_reason
from rankport.protos.wording import be, counted
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import BadRow
from rankport.sdk.membership.config import MembershipConfig, UserColumns

StrPath = str | os.PathLike[str]
Floats = NDArray[np.float64]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples of one side, by user."""

    source: str  # what they came from, for messages
    users: tuple[str, ...]  # each once
    owners: Whole  # [samples] place of the user
    texts: tuple[str, ...] | None  # [samples] None where embeddings were given
    rows: Floats | None = None  # [samples, dim] embeddings, where they were given
    left_out: int = 0  # users with too few texts
    repeats: int = 0  # texts that their user has once more, left out


def read_texts(path: StrPath, columns: UserColumns) -> Samples:
    """Reads a file of users and texts. Raises as `ItemsFile.open`, and `InvalidRequest` for a row without either."""
    file = ItemsFile.open(path, columns.of_rows)
    users, texts = list[str](), list[str]()
    for row in file.rows():
        if isinstance(row, BadRow):
            raise InvalidRequest(f"{path}, line {row.line}: {row.reason}; take the row out or mend it")
        users.append(row.id)
        texts.append(row.text)
    return of_users(str(path), users, tuple(texts), None)


def read_embeddings(path: StrPath) -> Samples:
    """Reads a .npz file with the arrays users [samples] and embeddings [samples, dim].

    Raises `NotFound` for no file, `InvalidRequest` for one without such arrays.
    """
    if not Path(path).is_file():
        raise NotFound(f"no file {path}")
    remedy = "without --bundle give .npz with the arrays users and embeddings"
    try:
        stored = np.load(path, allow_pickle=False)
        if not isinstance(stored, np.ndarray):
            with stored:
                arrays = dict(stored)
    except UNREADABLE as error:
        raise InvalidRequest(f"{path} cannot be read as .npz ({array_reason(error)}): {remedy}") from error
    if isinstance(stored, np.ndarray):
        raise InvalidRequest(f"{path} is one array: {remedy}")
    for name in ("users", "embeddings"):
        if name not in arrays:
            raise InvalidRequest(f"{path} has no array {name!r}; it needs users and embeddings")
    return of_arrays(str(path), arrays["users"], arrays["embeddings"])


def of_arrays(source: str, given_users: ArrayLike, given_rows: ArrayLike) -> Samples:
    """Checks users [samples] and their embeddings [samples, dim]. Raises `InvalidRequest` for what does not fit."""
    try:
        users, rows = _array_of(given_users), _array_of(given_rows)
    except ValueError as error:
        raise InvalidRequest(f"{source}: users or embeddings are no array: {error}") from error
    if rows.ndim != 2 or users.ndim != 1 or len(rows) != len(users):
        raise InvalidRequest(
            f"{source}: users {list(users.shape)} and embeddings {list(rows.shape)} do not fit: "
            "give users [samples] and embeddings [samples, dim]"
        )
    if rows.dtype.kind not in "fiu":
        raise InvalidRequest(f"{source}: embeddings are {rows.dtype}: give numbers")
    if not rows.shape[1]:
        raise InvalidRequest(f"{source}: embeddings {list(rows.shape)} have no values")
    values = rows.astype(np.float64)
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite((values**2).sum(axis=1)))
    if len(bad):
        raise InvalidRequest(f"{source}: embedding {bad[0]} is not finite, or its length is not")
    for place, user in enumerate(users.tolist()):
        if isinstance(user, bool) or not isinstance(user, str | int) or not str(user).strip():
            raise InvalidRequest(
                f"{source}: the user of embedding {place} is {user!r}: give text that is not blank, or a whole number"
            )
    return of_users(source, [str(user) for user in users.tolist()], None, values)


def _array_of(given: ArrayLike) -> NDArray[Any]:
    """Makes an array. A list of texts among others stays one of objects: numpy makes text of them all."""
    array = number_array(given)
    if array.dtype.kind == "U" and isinstance(given, list | tuple) and set(map(type, given)) != {str}:
        return np.array(given, object)
    return array


def of_users(
    source: str, names: Sequence[str], texts: tuple[str, ...] | None, rows: Floats | None
) -> Samples:
    """Groups samples by their users' names."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return Samples(source, tuple(places), np.array([places[name] for name in names], np.int64), texts, rows)


def chosen(samples: Samples, config: MembershipConfig, random: np.random.Generator) -> Samples:
    """Leaves out texts that a user repeats and users with too few of them, and draws from those with many.

    A text has no distance to itself, whether it was trained on or not. Of embeddings nobody knows whether one that
    comes again is of a text that does, or what an encoder makes of all texts of a user.

    Raises `InvalidRequest` where too few users are left.
    """
    kept, names, left_out, repeats = list[Whole](), list[str](), 0, 0
    order = np.argsort(samples.owners, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(samples.owners, minlength=len(samples.users)))[:-1])
    for name, every in zip(samples.users, groups, strict=True) if len(order) else ():
        own = _distinct(every, samples.texts)
        repeats += len(every) - len(own)
        if len(own) < config.min_texts:
            left_out += 1
            continue
        names.append(name)
        drawn = own if len(own) <= config.max_texts else random.choice(own, config.max_texts, replace=False)
        kept.append(np.sort(drawn))
    if len(names) < config.min_users:
        raise InvalidRequest(
            f"{samples.source} has {counted(len(names), 'user')} with at least {counted(config.min_texts, 'text')} "
            f"({left_out} have fewer): an audit needs min_users (--min-users), {config.min_users}"
        )
    places = np.concatenate(kept)
    return Samples(
        samples.source,
        tuple(names),
        np.repeat(np.arange(len(names)), [len(own) for own in kept]),
        None if samples.texts is None else tuple(samples.texts[place] for place in places.tolist()),
        None if samples.rows is None else samples.rows[places],
        left_out,
        repeats,
    )


def _distinct(places: Whole, texts: Sequence[str] | None) -> Whole:
    """Takes the first of equal texts; all where there are none."""
    if texts is None:
        return places
    first = dict[str, int]()
    for place in places.tolist():
        first.setdefault(texts[place], place)
    return np.array(list(first.values()), np.int64)


def check_apart(first: Samples, second: Samples, roles: str = "a member and a non-member") -> None:
    """Raises `InvalidRequest` for a user on both sides, which `roles` names, or embeddings of two widths."""
    both = sorted(set(first.users) & set(second.users))
    if both:
        raise InvalidRequest(
            f"user {both[0]!r} is {roles} ({counted(len(both), 'user')} {be(len(both))}): "
            f"{first.source} and {second.source} must be split by user"
        )
    if first.rows is not None and second.rows is not None and first.rows.shape[1] != second.rows.shape[1]:
        raise InvalidRequest(
            f"embeddings of {first.source} have {counted(first.rows.shape[1], 'value')}, "
            f"those of {second.source} {second.rows.shape[1]}: they are of two encoders"
        )
