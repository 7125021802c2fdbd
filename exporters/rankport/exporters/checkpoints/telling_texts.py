"""Texts that one pipeline of a tokenizer reads otherwise than another. Whose pipelines are compared, others know."""

from collections.abc import Callable, Collection, Sequence

Encode = Callable[[Sequence[str]], list[list[int]]]

_UNITS = (
    *("a", "B", "Ab", "it", "é", "e\u0301", "ß", "İ", "Я", "ع", "中", "東京", "カ", "가"),
    *("नि", "สั", "עִ", "😀", "👩‍🍳", "½", "ﬁ", "Ａ", "7", "2024", "１２", "٣"),
    *(" ", "  ", "\t", "\n", "\n\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\u00ad"),
    *("'", "'s", "'LL", "’", "-", "--", ".", "...", "…", ","),
    *("!", "/", "_", "#", "(", ")", '"', "<", "$", "+"),
)
"""Case, accents, scripts with marks, digits, compatibility forms, blanks, contractions and punctuation."""

_SHORT = 16  # characters, which are shown whole


def telling_texts(without: Collection[str] = ()) -> list[str]:
    """Lists each unit alone, then for each a text in which it stands before and behind every one.

    Splits look at a character and its neighbours, so that what two pipelines differ in shows in one of few texts.
    Units that hold a text of `without` are left out, and texts of blanks alone: nobody reads them.
    """
    units = [unit for unit in _UNITS if not any(name in unit for name in without)]
    alone = [unit for unit in units if unit.strip()]
    return [*alone, *(unit + "".join(other + unit for other in units) for unit in units)]


def read_otherwise(texts: Sequence[str], ours: Encode, theirs: Encode) -> list[str]:
    """Lists the texts that have other ids by one than by the other, in order."""
    read = zip(texts, ours(texts), theirs(texts), strict=True)
    return [text for text, ids, others in read if ids != others]


def shortened(text: str, ours: Encode, theirs: Encode) -> str:
    """Cuts a long text, read otherwise by one than by the other, at both ends as far as it is."""
    step = len(text) // 2 if len(text) > _SHORT else 0
    while step:
        parts = [part for part in (text[step:], text[:-step]) if part.strip()]
        cut = read_otherwise(parts, ours, theirs) if parts else []
        text, step = (cut[0], step) if cut else (text, step // 2)
    return text
