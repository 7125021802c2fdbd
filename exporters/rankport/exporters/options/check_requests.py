"""Files of requests against the prompt, tokenizer and store that they are for, before any model is loaded.

Owns what only these can tell: fields, forms of items, lengths, keys. What a line may be at all, its reader knows.
"""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial

from rankport.exporters.options.bad_lines import BadLines
from rankport.exporters.options.judged_texts import JudgedText
from rankport.exporters.options.reference_file import Reference
from rankport.exporters.options.request_files import StrPath
from rankport.exporters.options.requests_file import JudgedRequest, RealRequest
from rankport.protos.columns import ItemColumns
from rankport.protos.types import Item, Prefix, Truncation
from rankport.runtime.bundle.manifest import ManifestDraft
from rankport.runtime.prompt.encoded import EncodedPrefix
from rankport.runtime.prompt.encoder import PromptEncoder
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.store.keyed_items import KeyedItems, paired_tokens
from rankport.runtime.store.opening import open_store


@dataclass(frozen=True, slots=True)
class RequestForm:
    """Facts that requests must fit: prompt, limits and encoder, of a bundle or a planned one."""

    draft: ManifestDraft
    tokenizer: Tokenizer | None


@dataclass(frozen=True, slots=True)
class RequestContents:
    """Requests of all files."""

    judged: Sequence[JudgedRequest] = field(default=())
    calibration: Sequence[RealRequest] = field(default=())
    reference: Reference | None = None
    judged_texts: Sequence[JudgedText] = field(default=())  # of a classifier

    def __bool__(self) -> bool:
        return bool(self.judged or self.calibration or self.reference or self.judged_texts)


def check_requests(contents: RequestContents, form: RequestForm, store: StrPath | None) -> None:
    """Checks every request as it will be encoded.

    Raises:
        InvalidRequest: lines do not fit; all of them are named.
        PairingError, StoreError: the store is not the one of the ranker's encoder, or cannot be read.
    """
    _check_texts(contents.judged_texts, form.draft)
    with ExitStack() as opened:
        tokens = None
        if store is not None:
            held = opened.enter_context(closing(open_store(store, read_only=True)))
            tokens = paired_tokens(held, form.draft)
        check = _Check(PromptEncoder(form.draft, form.tokenizer), KeyedItems(form.draft, tokens))
        check.all([(row.prefix, row.items, row.place) for row in contents.judged], "error")
        check.all([(row.prefix, row.items, row.place) for row in contents.calibration], "truncate")
        check.all(_lines(contents.reference), "truncate")
        if contents.reference is not None:
            texts = [(row.text,) for row in contents.reference.embeddings]
            places = [row.place for row in contents.reference.embeddings]
            texts += [pair.texts for pair in contents.reference.pairs]  # type: ignore[misc]
            places += [pair.place for pair in contents.reference.pairs]
            check.items(list(zip(texts, places, strict=True)))


@dataclass(frozen=True, slots=True)
class _Check:
    prompt: PromptEncoder
    keys: KeyedItems

    def all(self, rows: Sequence[tuple[Prefix, Sequence[Item], str]], truncation: Truncation) -> None:
        """Encodes prefix and items of every line, and raises for those that cannot be."""
        bad = BadLines(lines=len(rows))
        for prefix, items, place in rows:
            bad.check(place, partial(self._encode, prefix, items, truncation))
        bad.raise_any()

    def items(self, rows: Sequence[tuple[Sequence[Item], str]]) -> None:
        """Encodes the items of every line that has no prefix."""
        bad = BadLines(lines=len(rows))
        for items, place in rows:
            bad.check(place, partial(self._encode_items, items, "truncate"))
        bad.raise_any()

    def _encode(self, prefix: Prefix, items: Sequence[Item], truncation: Truncation) -> None:
        self._encode_items(items, truncation, self.prompt.encode_prefix(prefix, truncation))

    def _encode_items(
        self, items: Sequence[Item], truncation: Truncation, behind: EncodedPrefix | None = None
    ) -> None:
        columns = ItemColumns.of(items)
        keyed = self.keys.resolve(columns.keys, "fail", columns.count)
        self.prompt.encode_items(columns, truncation, keyed, behind=behind)


def _check_texts(judged: Sequence[JudgedText], draft: ManifestDraft) -> None:
    """Holds the lines of judged texts to the bundle's labels, and to what it reads: a text, or two together."""
    bad = BadLines(lines=len(judged))
    names = () if draft.labels is None else draft.labels.names
    for text in judged:
        if isinstance(text.text, tuple) != (draft.pair is not None):
            read = (
                "one text is read: give text" if draft.pair is None else "two are read together: give texts"
            )
            bad.add(text.place, f"is {'one text' if isinstance(text.text, str) else 'a pair'}, and {read}")
        elif unknown := [name for name in text.labels if name not in names]:
            bad.add(text.place, f"label {unknown[0]!r} is none of {', '.join(names)}")
    bad.raise_any()


def _lines(reference: Reference | None) -> list[tuple[Prefix, Sequence[Item], str]]:
    """Lists an owner's requests as the lines that they stand on."""
    lines: list[tuple[Prefix, Sequence[Item], str]] = []
    for request in () if reference is None else reference.requests:
        by_place: dict[str, list[Item]] = {}
        for item, place in zip(request.items, request.places, strict=True):
            by_place.setdefault(place, []).append(item)
        lines += [(request.prefix, items, place) for place, items in by_place.items()]
    return lines
