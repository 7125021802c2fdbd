"""Settings in JSON objects of a folder: each key is taken, allowed, or refused by name."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rankport.exporters.checkpoints.forms.folder import read_json_object
from rankport.protos.errors import CheckpointError

T = TypeVar("T")


class Settings:
    """One file's object: values are taken by name, and `finish` refuses those that nobody asked for."""

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        """Takes the object; `where` opens messages."""
        self.where = where
        self._rest = dict(values)

    @classmethod
    def read(cls, file: Path) -> "Settings":
        """Reads a file; one that is absent has no settings. Raises CheckpointError."""
        return cls(str(file), read_json_object(file) if file.is_file() else {})

    def ignore(self, *names: str) -> None:
        """Lets settings pass that change no embedding."""
        for name in names:
            self._rest.pop(name, None)

    def has(self, name: str) -> bool:
        """Tells whether a setting is there and not yet taken."""
        return name in self._rest

    def flag(self, name: str, default: bool) -> bool:
        """Takes true or false."""
        value = self._rest.pop(name, default)
        if not isinstance(value, bool):
            raise self.error(name, value, "must be true or false")
        return value

    def optional_flag(self, name: str, default: bool) -> bool:
        """Takes true or false; the default where it is null too."""
        if self._rest.get(name) is None:
            self._rest.pop(name, None)
        return self.flag(name, default)

    def count(self, name: str, *, least: int = 1) -> int | None:
        """Takes a whole number; None where it is absent or null."""
        value = self._rest.pop(name, None)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value != int(value)
            or value < least
        ):
            raise self.error(name, value, f"must be a whole number from {least} on")
        return int(value)

    def text(self, name: str) -> str | None:
        """Takes a text; None where it is absent or null."""
        value = self._rest.pop(name, None)
        if value is not None and not isinstance(value, str):
            raise self.error(name, value, "must be a text")
        return value

    def of_torch(self, name: str, stated: str, known: Mapping[str, T], fix: str = "") -> T:
        """Finds what a class of torch.nn is here. Raises CheckpointError for one that is not `known`."""
        kind = stated.rsplit(".", 1)[-1]
        if not stated.startswith("torch.nn.") or kind not in known:
            raise self.error(
                name, stated, f"cannot be exported: there are {', '.join(known)} of torch.nn{fix}"
            )
        return known[kind]

    def part(self, name: str) -> "Settings":
        """Takes an object; an empty one where it is absent or null."""
        value = self._rest.pop(name, None) or {}
        if not isinstance(value, dict):
            raise self.error(name, value, "must be an object")
        return Settings(f"{self.where}: {name}", value)

    def optional_part(self, name: str) -> "Settings | None":
        """Takes an object; None where it is absent or null."""
        if self._rest.get(name) is None:
            self._rest.pop(name, None)
            return None
        return self.part(name)

    def value(self, name: str) -> Any:
        """Takes whatever is there; None where it is absent."""
        return self._rest.pop(name, None)

    def require(self, name: str, allowed: Collection[object], fix: str) -> None:
        """Refuses a setting that is there and none of the allowed values."""
        value = self._rest.pop(name, None)
        if value is not None and value not in allowed:
            raise self.error(name, value, fix)

    def finish(self, fix: str = "remove it if it changes no embedding") -> None:
        """Refuses what is left and is not empty."""
        for name, value in self._rest.items():
            if value not in (None, {}, []):
                raise self.error(name, value, f"is not known here: {fix}")

    def error(self, name: str, value: object, what: str) -> CheckpointError:
        """Makes the error of one setting."""
        return CheckpointError(f"{self.where}: {name} {value!r} {what}")
