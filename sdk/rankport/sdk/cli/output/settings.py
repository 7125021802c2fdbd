"""Settings of a command with their sources, and what became of their check: as TOML, or as JSON."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rankport.runtime.server.settings.checks import Check
from rankport.runtime.server.settings.setting import Setting
from rankport.sdk.cli.output.writing import write_json, writing


def write_settings(settings: Sequence[Setting], checks: Sequence[Check], as_json: bool) -> None:
    """Writes them to stdout: lines of TOML that `--config` takes again, or one object."""
    with writing("standard output"):
        if as_json:
            write_json(
                Path("-"),
                {
                    "settings": [{**asdict(each), "value": _plain(each.value)} for each in settings],
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
    return f"{setting.key} = {json.dumps(value, ensure_ascii=False)}  # {setting.source}"


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return list(value) if isinstance(value, tuple) else value
