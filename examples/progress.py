"""Progress of a training that the examples show: a bar on a terminal, a line for each tenth in a log."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, track


def counted(total: int, what: str, console: Console | None = None) -> Iterator[int]:
    """Counts the steps of a training up to `total`, and tells how far they are."""
    console = console or Console()
    if console.is_terminal:
        yield from track(range(total), what, console=console)
        return
    for step in range(total):
        if _opens_a_tenth(step, total):
            console.print(f"{what}: {step} of {total}", soft_wrap=True, highlight=False)
        yield step


@contextmanager
def losses(what: str, console: Console) -> Iterator[Callable[[int, int, float], None]]:
    """Yields what to call with the steps done, all steps and the loss."""
    if console.is_terminal:
        with Progress(console=console) as progress:
            task = progress.add_task(what, total=None)

            def show(step: int, steps: int, loss: float) -> None:
                progress.update(task, completed=step, total=steps, description=f"{what}, loss {loss:.3f}")

            yield show
        return

    def say(step: int, steps: int, loss: float) -> None:
        if _opens_a_tenth(step, steps):
            console.print(f"{what}: {step} of {steps}, loss {loss:.3f}", soft_wrap=True, highlight=False)

    yield say


def _opens_a_tenth(step: int, steps: int) -> bool:
    return step * 10 // steps > (step - 1) * 10 // steps
