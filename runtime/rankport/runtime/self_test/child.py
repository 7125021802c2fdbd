"""Process of one step: `python -m rankport.runtime.self_test.child STEP FOLDER OUT [--allow-unsupported-gpu]`.

Writes what it found to OUT, not to stdout, where libraries talk. A crash leaves no OUT: the parent tells of it.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from rankport.runtime.self_test.steps import STEPS, CannotRun, Setting

ALLOW = "--allow-unsupported-gpu"


def main(arguments: list[str]) -> None:
    """Runs the step."""
    step, folder, out = arguments[:3]
    try:
        found = asdict(STEPS[step](Setting(Path(folder), ALLOW in arguments)))
    except CannotRun as error:
        found = {"cannot": str(error)}
    except Exception as error:
        found = {"failed": f"{type(error).__name__}: {error}"}
    Path(out).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
