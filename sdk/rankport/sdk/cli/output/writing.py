"""Writing of commands: JSON for pipelines, and what goes wrong as one line."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rankport.protos.errors import InvalidRequest, RankportError
from rankport.protos.reasons import reason_of


@contextmanager
def writing(target: str) -> Iterator[None]:
    """Wraps writing to `target`, an option with its file, say. Raises `InvalidRequest` for an `OSError`."""
    try:
        yield
    except (RankportError, BrokenPipeError):  # the command line ends quietly when its reader went away
        raise
    except OSError as error:
        raise InvalidRequest(f"{target} cannot be written: {reason_of(error)}") from error


def write_json(file: Path | None, content: object) -> None:
    """Writes `content` to `file`, if one is named; "-" is standard output."""
    if file is None:
        return
    text = json.dumps(content, indent=2) + "\n"
    if str(file) == "-":
        print(text, end="")
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
