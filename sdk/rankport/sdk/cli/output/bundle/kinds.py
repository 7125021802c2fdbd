"""Facts of a manifest that one kind alone has, for people."""

import json
from collections.abc import Sequence

from rankport.runtime.bundle.description import set_read_out
from rankport.runtime.bundle.manifest import Chat, Generation, Lists, Score, Sets
from rankport.runtime.bundle.sections.lists import ListSegment
from rankport.runtime.bundle.sections.sets import IdTable


def set_facts(sets: Sets, score: Score) -> list[tuple[str, str]]:
    """Tells how a ranker of sets scores, and what it is given."""
    tables = (
        f"{name} {table.rows} x {table.width} {sets.files[name].dtype}, {_lookup(table)}, unknown ids: {table.unknown}"
        for name, table in sets.tables.items()
    )
    mask = sets.mask.policy if sets.mask.top_k is None else f"{sets.mask.policy} {sets.mask.top_k}"
    return [
        ("score", f"{score.kind} of a head; {set_read_out(sets.head_weights, score)}"),
        ("mask", mask),
        ("event", ", ".join(f"{each.name} ({each.source})" for each in sets.event)),
        ("candidate", ", ".join(f"{each.name} ({each.source})" for each in sets.candidate)),
        *(("table", table) for table in tables),
    ]


def _lookup(table: IdTable) -> str:
    """Tells how ids find rows, and which ids."""
    if table.lookup == "keys":
        return f"{table.key_count} keys of {table.ids}"
    return table.lookup if table.ids == "int64" else f"{table.lookup} of {table.ids}"


def list_facts(lists: Lists) -> list[tuple[str, str]]:
    """Tells how a ranker of lists is asked: its prompt, how many items one holds, and how blocks are joined."""
    parts = [lists.head, lists.item, lists.tail]
    prompt = " | ".join(_part(lists, part) for part in parts)
    most = f"up to {lists.max_items} items and {lists.max_tokens} tokens"
    if lists.join == "first":
        alone = ("item alone", _part(lists, lists.alone))
        return [("list prompt", prompt), alone, ("block", f"one of the first, {most}; all compared with it")]
    return [("list prompt", prompt), ("block", f"{most}; more than one: {_JOINS[lists.join]}")]


def _part(lists: Lists, part: Sequence[ListSegment]) -> str:
    return " ".join(_segment(lists, segment) for segment in part) or "-"


_JOINS = {
    "independent": "each by itself",
    "mean-query": "scored by the weighted mean of the blocks' queries",
    "refuse": "refused",
}


def _segment(lists: Lists, segment: ListSegment) -> str:
    """Writes a segment as people read it: texts shortened, values in angle brackets, tokens by name."""
    if segment.text is not None:
        text = segment.text if len(segment.text) <= _LONGEST else f"{segment.text[:_LONGEST]}…"
        return repr(text)
    if segment.special is not None:
        return " ".join(segment.special)
    if segment.mark is not None:
        marker = lists.item_marker if segment.mark == "item" else lists.query_marker
        assert marker is not None
        return marker.token
    value = segment.field or ("count" if segment.count else "item" if segment.item else "number")
    return f"<{value}>"


_LONGEST = 40


def writing_facts(generation: Generation) -> list[tuple[str, str]]:
    """Tells how a generator writes."""
    ends = ", ".join(map(str, generation.stop_ids)) or "none: texts end by --max-tokens or a stop text"
    drawn = "the likeliest token"
    if generation.temperature:
        top_k = f", top-k {generation.top_k}" if generation.top_k else ""
        min_p = f", min-p {generation.min_p:g}" if generation.min_p else ""
        drawn = f"temperature {generation.temperature:g}{top_k}, top-p {generation.top_p:g}{min_p}"
    penalty = "" if generation.repetition_penalty == 1 else f", repetition {generation.repetition_penalty:g}"
    decoding = generation.decoding
    least = generation.min_tokens if decoding is None else decoding.min_tokens
    ends += f", behind {least} tokens at least" if least else ""
    return [("stop ids", ends), ("tokens", f"{drawn}{penalty}, where a request does not say")]


def chat_in_words(chat: Chat) -> str:
    """Tells which messages a chat has, in which order, and what its template was told."""
    orders = {
        "user and assistant take turns": chat.alternates,
        "the last one is the user's": chat.ends_with_user and not chat.alternates,
        f"the template was told {json.dumps(chat.arguments)}": bool(chat.arguments),
        f"the day is {chat.date}": chat.date is not None,
    }
    return "; ".join([f"messages of {', '.join(chat.roles)}", *(told for told, so in orders.items() if so)])
