"""Form of the file that has what outlives a server: strict JSON. Owns how it is read and written."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from rankport.protos.errors import BundleError, InvalidRequest, Unavailable
from rankport.protos.versions import AliasRecord, AliasTarget, ModelAlias
from rankport.protos.wording import repeated
from rankport.runtime.bundle.manifest_json import explain
from rankport.runtime.bundle.strict import Strict
from rankport.runtime.bundle.strict_json import strict_json
from rankport.runtime.server.models.aliases import check_alias, check_targets
from rankport.runtime.store.durable_files import sync_names


class SavedVersion(Strict):
    """Version that was loaded at run time."""

    name: str
    version: str
    path: str  # as it was given to `load`
    fingerprint: str  # of the bundle that was there

    @property
    def model(self) -> str:
        """Name that means it and no other."""
        return f"{self.name}@{self.version}"


class SavedTarget(Strict):
    """Target of an alias."""

    model: str
    weight: float

    def value(self) -> AliasTarget:
        """Gives the target."""
        return AliasTarget(self.model, self.weight)


class SavedRecord(Strict):
    """Targets of an alias before it was changed."""

    targets: list[SavedTarget]
    until_s: float

    def value(self) -> AliasRecord:
        """Gives the record."""
        return AliasRecord(tuple(target.value() for target in self.targets), self.until_s)


class SavedAlias(Strict):
    """Alias, and what it stood for."""

    alias: str
    targets: list[SavedTarget] = Field(min_length=1)
    earlier: list[SavedRecord]

    @classmethod
    def of(cls, alias: ModelAlias) -> "SavedAlias":
        """Makes the file's form of an alias."""
        earlier = [
            SavedRecord(targets=_saved(record.targets), until_s=record.until_s) for record in alias.earlier
        ]
        return cls(alias=alias.alias, targets=_saved(alias.targets), earlier=earlier)

    def value(self) -> ModelAlias:
        """Gives the alias."""
        targets = tuple(target.value() for target in self.targets)
        return ModelAlias(self.alias, targets, tuple(record.value() for record in self.earlier))


class SavedState(Strict):
    """Content of the file."""

    format: Literal["rankport-state"] = "rankport-state"
    format_version: Literal[1] = 1
    versions: list[SavedVersion] = Field(default_factory=list)
    aliases: list[SavedAlias] = Field(default_factory=list)


def read_state(path: Path) -> SavedState:
    """Reads the file; one that is not there says nothing. Raises `InvalidRequest` for one that breaks a rule."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return SavedState()
    except OSError as error:
        raise InvalidRequest(f"state_file {path} cannot be read: {error.strerror}") from error
    try:
        state = SavedState.model_validate(strict_json(data, path.name))
        _check(state)
    except ValidationError as error:
        raise _broken(path, explain(error)) from None
    except (BundleError, InvalidRequest) as error:
        raise _broken(path, str(error)) from None
    return state


def write_state(path: Path, state: SavedState, *, shared: bool = False) -> None:
    """Replaces the file at once, or what it is a link to, which other processes do too where it is `shared`.

    Raises `Unavailable` if that fails, and leaves it as it is.
    """
    place = Path(os.path.realpath(path))
    beside = place.with_name(f".{place.name}{f'.{os.getpid()}' if shared else ''}.writing")
    try:
        beside.unlink(missing_ok=True)  # of a server that was killed, or a link to elsewhere
        with beside.open("xb") as stream:
            stream.write(json.dumps(state.model_dump(mode="json"), indent=2).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(place)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)  # on a disk that is full
        raise Unavailable(
            f"state_file {path} cannot be written: {error.strerror}; nothing is changed, try again when it can be"
        ) from error
    with suppress(OSError):  # the file is there already
        sync_names(place.parent)


def _check(state: SavedState) -> None:
    for kind, names in (
        ("version", [saved.model for saved in state.versions]),
        ("alias", [saved.alias for saved in state.aliases]),
    ):
        if twice := repeated(names):
            raise InvalidRequest(f"{kind} {twice[0]!r} is there twice")
    for alias in state.aliases:
        check_alias(alias.alias)
        for targets in (alias.targets, *(record.targets for record in alias.earlier)):
            check_targets([target.value() for target in targets])


def _saved(targets: tuple[AliasTarget, ...]) -> list[SavedTarget]:
    return [SavedTarget(model=target.model, weight=target.weight) for target in targets]


def _broken(path: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(f"state_file {path}: {reason}; mend it, or take it away to start without")
