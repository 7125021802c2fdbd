"""Pairs that are to be classified as runs of tokens, each with a first text of its own or all with one."""

from rankport.protos.classes import ClassTexts
from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Prefix, Truncation
from rankport.runtime.prompt.encoded import EncodedItems
from rankport.runtime.prompt.pairs import PairEncoder


def encode_class_pairs(
    whose: str, reads: PairEncoder, texts: ClassTexts, prefix: Prefix | None, truncation: Truncation
) -> EncodedItems:
    """Encodes pairs, empty ones apart; `whose` names the kind and the bundle in messages.

    Raises:
        InvalidRequest: there are single texts and no prefix, or both pairs and a prefix; or a text is malformed.
        LimitExceeded: a pair is too long and `truncation` is "error".
    """
    if texts.firsts is not None and prefix is not None:
        raise InvalidRequest("prefix: the pairs have first texts of their own: leave one of the two out")
    if texts.firsts is not None:
        return reads.encode_apart(texts.firsts, texts.texts, truncation, skip_empty=True)
    if prefix is not None:
        return reads.encode(prefix, texts.texts, truncation, skip_empty=True)
    raise InvalidRequest(
        f"texts[0] is one text, and {whose} reads two together: give pairs (first, second), or the first text of all "
        "as prefix"
    )
