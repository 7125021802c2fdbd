"""Progress of a load test: the rate that runs and its time left, and in a search a line for each that ended."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

from rankport.sdk.cli.output.consoles import plain_console
from rankport.sdk.cli.output.loadtest.words import rate_in_words, statuses_in_words, time_in_words
from rankport.sdk.loadtest.config import LoadConfig
from rankport.sdk.loadtest.result import LoadResult
from rankport.sdk.loadtest.run import LoadProgress


class ShownProgress:
    """Progress on standard error: a line that changes on a terminal, elsewhere only those that stay."""

    def __init__(self, console: Console, status: Status | None) -> None:
        self._console, self._status = console, status

    def tell(self, now: LoadProgress) -> None:
        """Shows how far a rate is."""
        if self._status is not None:
            failed = f", {now.failed:,} failed" if now.failed else ""
            ended = f"{now.ended:,} of {now.sent:,} sent have ended{failed}"
            self._status.update(f"{rate_in_words(now.rate)}: {ended}, {now.left_s:.0f} s left")

    def ended(self, result: LoadResult, kept: bool) -> None:
        """Writes the line of a rate that ended."""
        self._console.print(
            f"{rate_in_words(result.rate)}: p99 {time_in_words(result.percentile_s(99))}, "
            f"{statuses_in_words(result)}: {'kept' if kept else 'too much'}",
            soft_wrap=True,
            highlight=False,
        )


@contextmanager
def load_progress(config: LoadConfig) -> Iterator[ShownProgress]:
    """Shows progress during the block."""
    console = plain_console(stderr=True)
    if not console.is_terminal:
        seconds = config.warm_up_s + config.duration_s
        console.print(f"{seconds:g} s a rate, from {rate_in_words(config.rate)} on", highlight=False)
        yield ShownProgress(console, None)
        return
    with console.status("starting") as status:
        yield ShownProgress(console, status)
