"""Keys of plans, all that one depends on, and in words where two keys differ.

Owns the schema that plan.json holds; where plans lie is `plan_files`'.
"""

from collections.abc import Collection, Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from rankport.runtime.backends.tensorrt.build_options import BuildOptions, read_build_options
from rankport.runtime.backends.tensorrt.module import ModuleName
from rankport.runtime.backends.tensorrt.profiles import Profile
from rankport.runtime.bundle.strict import Sha256, Strict

_SHOWN_DIFFERENCES = 4
_HASH_CHARACTERS = 12


class PlanKey(Strict):
    """Key of all that a plan depends on. Two plans with one key do the same."""

    graph: str  # file of the bundle
    graph_sha256: Sha256
    weights: dict[str, Sha256]  # files of its external tensors
    module: ModuleName
    module_version: str
    architecture: Annotated[str, Field(pattern=r"^sm[1-9][0-9]{1,2}\+?$")]  # "+": and later ones
    gpu: str | None  # the GPU whose timings chose the kernels; None where none was asked
    profiles: list[Profile]
    options: Annotated[BuildOptions, BeforeValidator(read_build_options)]

    def differences(self, wanted: "PlanKey", ignoring: Collection[str] = ()) -> list[str]:
        """Says `part is this, wanted that` for each part in which a plan of this key is not the wanted one."""
        mine, other = dict(_parts(self, ignoring)), dict(_parts(wanted, ignoring))
        return [
            f"{part} is {_shown(mine.get(part))}, wanted {_shown(other.get(part))}"
            for part in dict.fromkeys([*mine, *other])
            if mine.get(part) != other.get(part) and not _serves(part, mine.get(part), other.get(part))
        ]


def join_differences(differences: list[str]) -> str:
    """Joins the first few differences to one line."""
    more = len(differences) - _SHOWN_DIFFERENCES
    return "; ".join(differences[:_SHOWN_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")


def _parts(key: PlanKey, ignoring: Collection[str]) -> Iterator[tuple[str, object]]:
    fields = key.model_dump(mode="json", exclude=set(ignoring))
    profiles = fields.pop("profiles", None)
    yield from _flat(fields, "")
    if profiles is not None:
        yield "profiles", [profile["name"] for profile in profiles]
        for profile in profiles:
            yield from _flat(profile, f"profiles.{profile['name']}.")


def _flat(fields: dict[str, object], path: str) -> Iterator[tuple[str, object]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield path + name, value


def _serves(part: str, built: object, wanted: object) -> bool:
    """Says whether a plan serves what another value asks for: `sm80+` is for all from 8.0 on, no GPU's name for any."""
    if part == "gpu":
        return built is None
    if part != "architecture" or not (isinstance(built, str) and isinstance(wanted, str)):
        return False
    return built.endswith("+") and int(wanted.strip("sm+")) >= int(built.strip("sm+"))


def _shown(value: object) -> str:
    if isinstance(value, str) and len(value) == 64:
        return f"{value[:_HASH_CHARACTERS]}…"
    return "absent" if value is None else f"{value}"
