"""The modes `spans`, `words` and `windows`: texts as the bundle tags them, and as its source does.

The source's way is transformers' tokenizer, the checkpoint's own forward, and the definition of spans. Reading has no
tolerance: other tokens or places are an error at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.kinds.labels.heads import head_names
from rankport.exporters.kinds.tagger.crf_files import read_crf
from rankport.exporters.kinds.tagger.proof.logits import source_logits
from rankport.exporters.kinds.tagger.proof.owners_reading import OwnersTokenizer, OwnReading, Text
from rankport.exporters.kinds.tagger.proof.owners_spans import OwnDecoder
from rankport.exporters.kinds.texts.samples import overlong_text, sample_texts
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.same_tokens import TEXTS
from rankport.exporters.proof.windows import LONGEST
from rankport.protos.errors import ParityError
from rankport.protos.tagging import Span, TagResult, TagTexts, TagTruncation
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.fingerprint import with_own_fingerprint
from rankport.runtime.bundle.manifest import Manifest, ModeParity, Segment
from rankport.runtime.kinds.tagger.labels import LabelScheme
from rankport.runtime.kinds.tagger.reading import TextReader
from rankport.runtime.kinds.tagger.tagger import Tagger
from rankport.runtime.prompt.tokenizer import Tokenizer

AWKWARD = (
    *TEXTS,
    "\U0001f469\u200d\U0001f373 cook in \U0001f1eb\U0001f1f7",  # several code points a sign
    "\ufb01ne \u0130zmir \u2460 \u00bd kg",  # one character, several after normalization
    "cafe\u0301 na\u0131\u0308ve",  # several characters, one after it
    "  \u00a0led\u3000by\t space ",
    "",
)


@dataclass(frozen=True, slots=True)
class OwnTagger:
    """A checkpoint as its owner would tag with it, one text at a time."""

    model: nn.Module
    tokenizer: OwnersTokenizer
    decoder: OwnDecoder
    before: Sequence[int]  # frame of a text
    after: Sequence[int]
    by_word: bool
    room: int

    @classmethod
    def of(cls, source: Checkpoint, manifest: Manifest) -> "OwnTagger":
        """Takes labels, CRF, tokenizer and its frame from the checkpoint.

        The limit is the bundle's, and so are a prompt that was asked for, and the unit where no CRF says it.
        """
        assert source.tokenizer_file is not None
        assert manifest.tagging is not None
        tokenizer = OwnersTokenizer(source.tokenizer_file)
        names = head_names(source)
        crf = read_crf(source.path, LabelScheme.of(names))
        frame = tokenizer.frame()
        most = None
        if "prompt" in manifest.source.overrides:
            own = next(i for i, segment in enumerate(manifest.prompt.item) if segment.item)
            most = manifest.prompt.item[own].max_tokens
            frame = (
                _literals(manifest.prompt.item[:own], tokenizer),
                _literals(manifest.prompt.item[own + 1 :], tokenizer),
            )
        room = manifest.limits.max_item_tokens - sum(map(len, frame))
        unit = manifest.tagging.unit if crf is None else crf.unit
        return cls(
            source.model, tokenizer, OwnDecoder(names, crf), *frame, unit == "word", min(room, most or room)
        )

    def read(self, text: Text) -> OwnReading:
        """Reads a text as transformers does."""
        return self.tokenizer.read(text, by_word=self.by_word)

    def unit_logits(self, reading: OwnReading) -> NDArray[np.float32]:
        """Runs the model on every window of a text, and takes each unit's row. [units, labels]"""
        tokens, room = len(reading.ids), self.room
        starts = [0]
        if tokens > room:
            count = 1 + -(-(tokens - room) // (room - room // 4))
            starts = [window * (tokens - room) // (count - 1) for window in range(count)]
        runs = [
            np.array([*self.before, *reading.ids[start : start + room], *self.after], np.int64)
            for start in starts
        ]
        rows = source_logits(self.model, runs)
        own = []
        for unit in reading.units:
            contexts = [self._context(unit.token, start, tokens) for start in starts]
            window = contexts.index(max(contexts))
            own.append(rows[window][len(self.before) + unit.token - starts[window]])
        return np.array(own, np.float32).reshape(len(own), len(self.decoder.names))

    def spans(self, reading: OwnReading, logits: NDArray[np.float32]) -> list[Span]:
        """Decodes a text."""
        return [
            Span(reading.units[first].start, reading.units[last - 1].end, kind, score)
            for first, last, kind, score in self.decoder.decode(logits)
        ]

    def is_tied(self, reading: OwnReading, logits: NDArray[np.float32], tie: float) -> bool:
        """Tells whether the source itself has other spans where its logits are off by `tie`."""
        rng = np.random.default_rng(0)
        places = _places(self.spans(reading, logits))
        moved = (logits + rng.uniform(-tie, tie, logits.shape).astype(np.float32) for _ in range(8))
        return any(_places(self.spans(reading, other)) != places for other in moved)

    def _context(self, token: int, start: int, tokens: int) -> float:
        """Counts the tokens that a window shows on the poorer side of a token; an edge of the text lacks nothing."""
        end = min(start + self.room, tokens)
        if not start <= token < end:
            return -1
        left = token - start if start else np.inf
        right = end - 1 - token if end < tokens else np.inf
        return min(left, right)


def compare_texts(place: Runnable, source: Checkpoint, tie: float) -> list[ModeParity]:
    """Measures spans and tags of texts. Logits within `tie` of each other have no order.

    Windows are at most `LONGEST` tokens. Raises ParityError for a text that the bundle reads as other tokens or at
    other places.
    """
    bundle = of_shorter_windows(place.bundle)
    manifest = bundle.manifest
    assert manifest.tokenizer is not None
    tokenizer = Tokenizer.from_file(bundle.file(manifest.tokenizer))
    owner, reader = OwnTagger.of(source, manifest), TextReader(manifest, tokenizer)
    special = tokenizer.special_tokens()
    awkward = [text for text in AWKWARD if not any(name in text for name in special)]
    drawn = [*awkward, *sample_texts(tokenizer, manifest.limits.max_item_tokens)]
    drawn = [text for text in drawn if len(tokenizer.encode_batch([text])[0]) <= owner.room]
    long = _of_tokens(overlong_text(drawn, 2 * owner.room), 2 * owner.room, tokenizer)
    modes: dict[str, Sequence[Text]] = {
        "spans": drawn,
        "words": [text.split() for text in drawn],
        "windows": [long, drawn[0], long[: len(long) * 2 // 3]],
    }
    with Tagger.load(bundle, config=place.config) as tagger:
        return [_compare(mode, texts, owner, reader, tagger, tie) for mode, texts in modes.items()]


def of_shorter_windows(bundle: Bundle) -> Bundle:
    """Has a tagger cut texts at `LONGEST` tokens where its limit is beyond: attention over more may fit no machine."""
    limits = bundle.manifest.limits
    most = min(limits.max_item_tokens, LONGEST)
    narrower = limits.model_copy(update={"max_item_tokens": most})
    manifest = bundle.manifest.model_copy(update={"limits": narrower})
    return replace(bundle, manifest=with_own_fingerprint(manifest))


def _of_tokens(text: str, tokens: int, tokenizer: Tokenizer) -> str:
    """Cuts a text to about so many tokens."""
    words = text.split()
    share = tokens / len(tokenizer.encode_batch([text])[0])
    return " ".join(words[: max(1, int(share * len(words)))])


def _compare(
    mode: str, texts: Sequence[Text], owner: OwnTagger, reader: TextReader, tagger: Tagger, tie: float
) -> ModeParity:
    truncation: TagTruncation = "windows" if mode == "windows" else "error"
    readings = [owner.read(text) for text in texts]
    _require_same_reading(mode, texts, readings, reader, truncation)
    result = tagger.tag(texts, truncation=truncation)
    equal, errors = [], [0.0]
    for text, reading in enumerate(readings):
        logits = owner.unit_logits(reading)
        expected, actual = owner.spans(reading, logits), list(result.spans(text))
        same = _places(expected) == _places(actual) and _tags_agree(result, text, expected, reading)
        if not same and owner.is_tied(reading, logits, tie):
            continue
        equal.append(same)
        errors += [abs(a.score - b.score) for a, b in zip(expected, actual, strict=False) if same]
    return spans_parity(mode, len(texts), equal, errors)


def spans_parity(mode: str, texts: int, equal: Sequence[bool], errors: Sequence[float]) -> ModeParity:
    """Sums up how many texts have equal spans, of those that are not tied, and how far their scores are apart."""
    return ModeParity(
        mode=mode,
        items=texts,
        max_abs_error=max(errors),
        mean_abs_error=float(np.mean(errors)),
        relative_error=max(errors),
        kendall_tau=float(np.mean(equal or [True])),
        top_k_agreement=float(np.mean(equal or [True])),
    )


def _require_same_reading(
    mode: str,
    texts: Sequence[Text],
    readings: Sequence[OwnReading],
    reader: TextReader,
    truncation: TagTruncation,
) -> None:
    units = reader.read(TagTexts.of(texts), truncation).units
    for text, reading in enumerate(readings):
        first, last = units.offsets[text : text + 2]
        ours = list(zip(units.starts[first:last].tolist(), units.ends[first:last].tolist(), strict=True))
        theirs = [(unit.start, unit.end) for unit in reading.units]
        if ours != theirs:
            raise ParityError(
                f"{mode}: {texts[text]!r:.60} has its labels at the characters {ours[:8]} in the bundle and at "
                f"{theirs[:8]} in transformers: tokenizer_config.json must make the places of tokenizer.json"
            )


def _places(spans: Sequence[Span]) -> list[tuple[int, int, str]]:
    return [(span.start, span.end, span.label) for span in spans]


def _tags_agree(result: TagResult, text: int, expected: Sequence[Span], reading: OwnReading) -> bool:
    """Checks that the words tagged are those that the source's spans cover."""
    if result.words is None:
        return True
    tagged = {word for word, tag in enumerate(result.words.of(text)) if tag != "O"}
    covered = {
        unit.word
        for unit in reading.units
        for span in expected
        if span.start < unit.end and unit.start < span.end
    }
    return tagged == covered


def _literals(segments: Sequence[Segment], tokenizer: OwnersTokenizer) -> list[int]:
    """Reads segments of special tokens and texts."""
    ids: list[int] = []
    for segment in segments:
        if segment.special is not None:
            ids += map(int, tokenizer.inner.convert_tokens_to_ids(list(segment.special)))
        else:
            ids += map(int, tokenizer.inner(segment.text, add_special_tokens=False)["input_ids"])
    return ids
