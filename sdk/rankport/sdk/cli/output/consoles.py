"""Consoles that print texts as they are, and nothing that a terminal would obey."""

from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from rankport.sdk.cli.output.writing import harmless


class _PlainConsole(Console):
    def render_str(self, text: str, **how: Any) -> Text:  # whose width is measured before it is rendered
        return super().render_str(harmless(text), **how)

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else harmless(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


def tell_failures(console: Console, failures: Iterable[str]) -> None:
    """Tells why something counts as failed, a line each."""
    for failure in failures:
        console.print(f"FAILED: {failure}", style="bold red", soft_wrap=True)


def plain_console(*, stderr: bool = False, file: IO[str] | None = None, soft_wrap: bool = False) -> Console:
    """Makes a console to which brackets and colons are no markup: paths, tokens and messages have them."""
    return _PlainConsole(stderr=stderr, file=file, soft_wrap=soft_wrap, markup=False, emoji=False)
