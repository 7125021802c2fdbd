"""`manifest.json` as bytes: strict JSON in, canonical JSON out.

Owns the encoding and the wording of schema errors; what the values mean to each other is `manifest_rules`'.
"""

import json
from typing import Any, NoReturn

from pydantic import ValidationError

from rankport.protos.errors import BundleError
from rankport.runtime.manifest import FORMAT_NAME, FORMAT_VERSION, Manifest

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024

_SHOWN_CHARACTERS = 80


def manifest_bytes(manifest: Manifest) -> bytes:
    """The one way a manifest is written: schema order, two spaces, UTF-8, defaults left out."""
    fields = manifest.model_dump(mode="json", exclude_defaults=True)
    return (json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in `data`.

    Raises:
        BundleError: not UTF-8 JSON, a repeated or unknown key, another or a newer format, a value outside the
            schema; the message names the field.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST_NAME}: more than {MAX_MANIFEST_BYTES} bytes, the format's limit")
    fields = _strict_json(data)
    _check_format(fields)
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        raise BundleError(f"{MANIFEST_NAME}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """The first schema error as `field: reason`, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    where = field_path(first["loc"])
    match first["type"]:
        case "extra_forbidden":
            reason = "unknown key"
        case "missing":
            reason = "missing"
        case "value_error":
            reason = str(first["ctx"]["error"])
        case _:
            reason = f"{first['msg']}, got {_shown(first['input'])}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {reason}{more}" if where else f"{reason}{more}"


def field_path(loc: tuple[int | str, ...]) -> str:
    """`("graphs", 0, "role")` as `graphs[0].role`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.removeprefix(".")


def _strict_json(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data.decode(), object_pairs_hook=_distinct, parse_constant=_refuse_constant)
        _refuse_half_characters(fields)
    except RecursionError:
        raise BundleError(f"{MANIFEST_NAME}: nested too deeply to be a manifest") from None
    except ValueError as error:
        raise BundleError(f"{MANIFEST_NAME}: not JSON in UTF-8: {error}") from None
    if not isinstance(fields, dict):
        raise BundleError(f"{MANIFEST_NAME}: must be a JSON object, is {_shown(fields)}")
    return fields


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise BundleError(f"{MANIFEST_NAME}: key {_shown(repeated)} is given twice in one object")
    return fields


def _refuse_half_characters(fields: object) -> None:
    """An escape such as \\ud800 alone is valid JSON but no text: it could be neither printed nor written again."""
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        near = error.object[max(0, error.start - 30) : error.end]
        raise BundleError(f"{MANIFEST_NAME}: half of a character at the end of {near!a}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check_format(fields: dict[str, Any]) -> None:
    """A newer format may break any other rule, so its version is looked at before the schema."""
    if fields.get("format") != FORMAT_NAME:
        raise BundleError(
            f"{MANIFEST_NAME}: format: must be {FORMAT_NAME!r}, not {_shown(fields.get('format'))}: no bundle"
        )
    version = fields.get("format_version")
    if type(version) is not int or version < 1:
        raise BundleError(
            f"{MANIFEST_NAME}: format_version: must be an integer from 1, not {_shown(version)}"
        )
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{MANIFEST_NAME}: format_version: bundle format {version} is newer than {FORMAT_VERSION}: "
            "update rankport"
        )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
