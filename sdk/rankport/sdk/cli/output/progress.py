"""Progress of long work whose steps are named: a spinner on a terminal, a line a step in a log."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def steps(console: Console) -> Iterator[Callable[[str], None]]:
    """Yields what to call with each step's name. In a log, a step that only counts on is named once."""
    if console.is_terminal:
        with console.status("starting") as status:
            yield status.update
        return
    seen: set[str] = set()

    def say(step: str) -> None:
        kind = re.sub(r"\d+", "", step)
        if kind not in seen:
            seen.add(kind)
            console.print(step, soft_wrap=True, highlight=False)

    yield say
