"""Progress of long work whose steps are named: a spinner on a terminal, a line a step in a log. Warnings stay."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text


@contextmanager
def steps(console: Console) -> Iterator[Callable[[str], None]]:
    """Yields what to call with each step's name. In a log, a step that only counts on is named once.

    A step that opens with "warning: " is printed, and stays.
    """
    if console.is_terminal:
        with console.status("starting") as status:

            def show(step: str) -> None:
                if not _warn(console, step):
                    status.update(Text(step))  # a text as it is, no markup

            yield show
        return
    seen: set[str] = set()

    def say(step: str) -> None:
        if _warn(console, step):
            return
        kind = re.sub(r"\d+", "", step)
        if kind not in seen:
            seen.add(kind)
            console.print(step, soft_wrap=True, highlight=False)

    yield say


def _warn(console: Console, step: str) -> bool:
    """Prints a warning; says whether it was one."""
    if not step.startswith("warning: "):
        return False
    console.print(step, style="bold yellow", soft_wrap=True, highlight=False, markup=False)
    return True
