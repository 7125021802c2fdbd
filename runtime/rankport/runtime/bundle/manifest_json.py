"""`manifest.json` as bytes: strict JSON in, canonical JSON out.

Owns the encoding and the wording of schema errors; what the values mean to each other is `manifest_rules`'.
"""

import json
from typing import Any

from pydantic import ValidationError

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.manifest import FORMAT_NAME, FORMAT_VERSION, Manifest
from rankport.runtime.bundle.strict_json import shown, strict_json

MANIFEST_NAME = "manifest.json"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024


def manifest_bytes(manifest: Manifest) -> bytes:
    """Writes a manifest in the one way there is: schema order, two spaces, UTF-8, defaults left out."""
    fields = manifest.model_dump(mode="json", exclude_defaults=True)
    return (json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse_manifest(data: bytes) -> Manifest:
    """Reads the manifest in `data`.

    Raises:
        BundleError: not UTF-8 JSON, a repeated or unknown key, another or a newer format, a value outside the
            schema; the message names the field.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST_NAME}: more than {MAX_MANIFEST_BYTES} bytes, the format's limit")
    fields = strict_json(data, MANIFEST_NAME)
    _check_format(fields)
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        raise BundleError(f"{MANIFEST_NAME}: {explain(error)}") from None


def explain(error: ValidationError) -> str:
    """Tells the first schema error as `field: reason`, and how many more there are."""
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
            reason = f"{first['msg']}, got {shown(first['input'])}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {reason}{more}" if where else f"{reason}{more}"


def field_path(loc: tuple[int | str, ...]) -> str:
    """Writes `("graphs", 0, "role")` as `graphs[0].role`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.removeprefix(".")


def _check_format(fields: dict[str, Any]) -> None:
    """Checks the version before the schema: a newer format may break any other rule."""
    if fields.get("format") != FORMAT_NAME:
        raise BundleError(
            f"{MANIFEST_NAME}: format: must be {FORMAT_NAME!r}, not {shown(fields.get('format'))}: no bundle"
        )
    version = fields.get("format_version")
    if type(version) is not int or version < 1:
        raise BundleError(f"{MANIFEST_NAME}: format_version: must be an integer from 1, not {shown(version)}")
    if version > FORMAT_VERSION:
        raise BundleError(
            f"{MANIFEST_NAME}: format_version: bundle format {version} is newer than {FORMAT_VERSION}: "
            "update rankport"
        )
