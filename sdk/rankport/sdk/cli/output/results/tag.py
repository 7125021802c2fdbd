"""Result of `rankport tag`: a table for people, a JSON object a text for pipelines."""

import json
import math
import re
import sys

from rich.table import Table
from rich.text import Text

from rankport.protos.tagging import TagResult, TagTexts
from rankport.protos.wording import counted
from rankport.sdk.cli.output.consoles import plain_console
from rankport.sdk.cli.output.writing import writing

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def write_json_lines(given: TagTexts, result: TagResult) -> None:
    """Writes a line a text to standard output, of words with the tag of each; places are characters (code points)."""
    with writing("standard output"):
        for index, text in enumerate(given.texts):
            spans = [
                {
                    "start": span.start,
                    "end": span.end,
                    "label": span.label,
                    "score": span.score,
                    "text": text[span.start : span.end],
                }
                for span in result.spans(index)
            ]
            line = {
                "text": text,
                **_words(given, result, index),
                "spans": spans,
                "status": str(result.status[index]),
                "message": result.messages[index],
            }
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


def _words(given: TagTexts, result: TagResult, index: int) -> dict[str, list[dict[str, object]]]:
    """Tells the tag of each word of a text that was given as words; null is the score of one that is no token."""
    if given.words is None or given.word_offsets is None or result.words is None:
        return {}
    words = slice(*given.word_offsets[index : index + 2].tolist())
    told = zip(given.words[words], result.words.of(index), result.words.scores[words].tolist(), strict=True)
    return {
        "words": [
            {"word": word, "tag": tag, "score": score if math.isfinite(score) else None}
            for word, tag, score in told
        ]
    }


def write_table(given: TagTexts, result: TagResult) -> None:
    """Writes a line a span, then what there is to say of texts, and what it cost."""
    table = Table()
    for name in ("text", "start", "end"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("label", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("span", max_width=80)
    for index, text in enumerate(given.texts):
        for span in result.spans(index):
            found = Text(_CONTROL.sub(" ", text[span.start : span.end]), no_wrap=True, overflow="ellipsis")
            places = (str(index), str(span.start), str(span.end))
            table.add_row(*places, span.label, f"{span.score:.4f}", found)
    told = [
        f"text {index}: {status}: {message}"
        for index, (status, message) in enumerate(zip(result.status, result.messages, strict=True))
        if message
    ]
    usage = result.usage
    cost = (
        f"{counted(len(result.starts), 'span')} in {counted(len(given), 'text')}, "
        f"{counted(usage.item_tokens, 'token')}; "
        f"tokenize {usage.tokenize_s * 1e3:.1f} ms, queue {usage.queue_s * 1e3:.1f} ms, "
        f"compute {usage.compute_s * 1e3:.1f} ms"
    )
    with writing("standard output"):
        console = plain_console()
        console.print(table)
        for line in (*told, cost):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
