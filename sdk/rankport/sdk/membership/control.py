"""Features of the texts alone, which no encoder has seen: what tells members from others without any leak.

A difference of the two sets, in length or in how much the texts of a user are alike, shows in embeddings too. What an
attack reaches on these features is no leak.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.sdk.membership.samples import Floats, Samples

TEXT_NAMES = (
    "texts",
    "characters_mean",
    "characters_std",
    "words_mean",
    "characters_a_word",
    "distinct_words",
    "digits",
    "word_overlap_mean",
    "word_overlap_max",
)
COUNT_NAMES = ("texts",)


def control_names(samples: Samples) -> tuple[str, ...]:
    """Names the features; of embeddings alone only the number of samples is known."""
    return COUNT_NAMES if samples.texts is None else TEXT_NAMES


def control_features(samples: Samples) -> Floats:
    """Computes the features of all users. [users, features]"""
    counts = np.bincount(samples.owners, minlength=len(samples.users))
    if samples.texts is None:
        return counts[:, None].astype(np.float64)
    ends = np.cumsum(counts)
    order = np.argsort(samples.owners, kind="stable").tolist()
    texts = [samples.texts[place] for place in order]
    return np.array(
        [
            _of_user(texts[end - count : end])
            for count, end in zip(counts.tolist(), ends.tolist(), strict=True)
        ]
    )


def length_ratio(members: Samples, others: Samples) -> float | None:
    """Divides the median length of members' texts by that of the others'; None where there are no texts."""
    if members.texts is None or others.texts is None:
        return None
    ours, theirs = (float(np.median([len(text) for text in side.texts or ()])) for side in (members, others))
    return ours / max(theirs, 1.0)


def shared_texts(members: Samples, others: Samples) -> int:
    """Counts texts of non-members that are, letter by letter, a text of a member too; 0 where there are no texts."""
    ours = set(members.texts or ())
    return sum(text in ours for text in others.texts or ())


def _of_user(texts: Sequence[str]) -> list[float]:
    lengths = np.array([len(text) for text in texts], np.float64)
    words = [text.lower().split() for text in texts]
    total = max(1, sum(map(len, words)))
    overlaps = _overlaps([set(text) for text in words])
    return [
        float(len(texts)),
        float(lengths.mean()),
        float(lengths.std()),
        total / len(texts),
        float(lengths.sum()) / total,
        len({word for text in words for word in text}) / total,
        sum(character.isdigit() for text in texts for character in text) / max(1.0, float(lengths.sum())),
        float(overlaps.mean()),
        float(overlaps.max()),
    ]


def _overlaps(words: Sequence[set[str]]) -> NDArray[np.float64]:
    """Computes the Jaccard similarity of the words of each pair of texts."""
    return np.array(
        [
            len(ours & theirs) / max(1, len(ours | theirs))
            for place, ours in enumerate(words)
            for theirs in words[place + 1 :]
        ]
    )
