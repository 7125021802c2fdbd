"""Settings of a command with their sources, and what became of their check: as TOML, or as JSON."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rankport.runtime.server.settings.checks import Check
from rankport.runtime.server.settings.setting import Setting
from rankport.runtime.store.redis_store.location import without_password
from rankport.sdk.cli.output.writing import write_json, writing


def write_settings(settings: Sequence[Setting], checks: Sequence[Check], as_json: bool) -> None:
    """Writes them to stdout: lines of TOML that `--config` takes again, but for passwords, or one object."""
    with writing("standard output"):
        if as_json:
            write_json(
                Path("-"),
                {
                    "settings": [{**asdict(each), "value": _in_json(each.value)} for each in settings],
                    "checks": [asdict(check) for check in checks],
                },
            )
            return
        for each in settings:
            print(_line(each))
        for check in checks:
            print(f"# {'wrong' if check.error else 'fine'}: {check.what}{check.error and ': ' + check.error}")


def _line(setting: Setting) -> str:
    value = _plain(setting.value)
    if value is None:
        return f"# {setting.key} is not set"
    # TOML has inf.
    written = repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return f"{setting.key} = {written}  # {setting.source}"


def _in_json(value: Any) -> Any:
    """Gives a value as JSON has it: what is no number there as the text that a variable would have."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else _plain(value)


def _plain(value: Any) -> Any:
    """Gives a value as TOML and JSON have it, and URLs without passwords: supervisors keep what is written."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return without_password(value) if isinstance(value, str) else value
