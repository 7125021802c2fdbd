"""Places in a text, in the units that languages count in: code points, UTF-16 code units, UTF-8 bytes.

Python counts code points; Java, JavaScript and C# UTF-16 code units, of which an emoji has two (a surrogate pair); Go,
Rust and C bytes.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TextUnit = Literal["code_points", "utf16", "utf8"]


def places_in(
    texts: Sequence[str], places: NDArray[np.int64], text_of: NDArray[np.int64], unit: TextUnit
) -> NDArray[np.int64]:
    """Counts places, given in code points of their text, in another unit. [places]

    `text_of` [places], ascending, is the text of each.
    """
    if unit == "code_points" or not len(places):
        return places
    counted = places.copy()
    edges = np.searchsorted(text_of, np.arange(len(texts) + 1)).tolist()
    for text, start, end in zip(texts, edges, edges[1:], strict=False):
        if start < end and not text.isascii():
            counted[start:end] = _widths_before(text, unit)[places[start:end]]
    return counted


def code_points(text: str) -> NDArray[np.uint32]:
    """Lists the code points of a text without lone surrogates. [characters]"""
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def _widths_before(text: str, unit: TextUnit) -> NDArray[np.int64]:
    """Sums the units before each character, and at last of all. [characters + 1]"""
    points = code_points(text)
    widths = 1 + (points > 0xFFFF).astype(np.int64)
    if unit == "utf8":
        widths += (points > 0x7F).astype(np.int64) + (points > 0x7FF)
    return np.concatenate([[0], np.cumsum(widths)])
