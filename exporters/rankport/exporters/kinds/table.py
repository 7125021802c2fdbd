"""The kinds of models that an export makes: one explicit table. Imports no torch, so that a slip costs no seconds."""

import dataclasses
from collections.abc import Mapping, Sequence

from rankport.exporters.kinds.classifier.kind import CLASSIFIER
from rankport.exporters.kinds.cross_encoder.kind import CROSS_ENCODER
from rankport.exporters.kinds.generator.kind import GENERATOR
from rankport.exporters.kinds.item_encoder.kind import ITEM_ENCODER
from rankport.exporters.kinds.kind import ExportKind
from rankport.exporters.kinds.list_ranker.kind import LIST_RANKER
from rankport.exporters.kinds.ranker.kind import RANKER
from rankport.exporters.kinds.seq2seq.kind import SEQ2SEQ
from rankport.exporters.kinds.set_ranker.kind import SET_RANKER
from rankport.exporters.kinds.tagger.kind import TAGGER
from rankport.exporters.kinds.two_tower.kind import TWO_TOWER
from rankport.exporters.options.checks import flag_name
from rankport.exporters.options.options import ExportOptions, option_names
from rankport.protos.errors import InvalidRequest

EXPORT_KINDS: tuple[ExportKind, ...] = (
    RANKER,
    ITEM_ENCODER,
    CROSS_ENCODER,
    CLASSIFIER,
    TWO_TOWER,
    TAGGER,
    GENERATOR,
    SEQ2SEQ,
    SET_RANKER,
    LIST_RANKER,
)


def kind_named(name: str, kinds: Sequence[ExportKind] = EXPORT_KINDS) -> ExportKind:
    """Finds a kind. Raises InvalidRequest if there is none."""
    for kind in kinds:
        if kind.name == name:
            return kind
    if name == "mix-ranker":
        raise InvalidRequest(
            "kind 'mix-ranker' is no kind of its own: a ranker that takes embedding tokens is "
            "--kind ranker --item-encoder ENCODER, the bundle (or fingerprint) of the encoder it was trained with"
        )
    raise InvalidRequest(f"kind {name!r} is unknown: use one of {', '.join(row.name for row in kinds)}")


def kinds_with(option: str) -> tuple[str, ...]:
    """Names the kinds that have an option."""
    return tuple(kind.name for kind in EXPORT_KINDS if option in option_names(kind.options))


def options_of(kind: ExportKind, given: Mapping[str, object]) -> ExportOptions:
    """Makes a kind's options of keyword arguments; sequences become tuples, labels may be joined by commas.

    Raises InvalidRequest for an unknown option, and for another kind's, which is told.
    """
    for option in given:
        if option in option_names(kind.options):
            continue
        others = kinds_with(option)
        if others:
            raise InvalidRequest(
                f"{flag_name(option)} belongs to --kind {' or '.join(others)}, not {kind.name}"
            )
        known = ", ".join(option_names(kind.options))
        raise InvalidRequest(f"export has no option {option!r}: there are {known}")
    forms = {field.name: field.metadata.get("form") for field in dataclasses.fields(kind.options)}
    return kind.options(**{option: _frozen(forms[option], value) for option, value in given.items()})  # type: ignore[arg-type]


def _frozen(form: object, value: object) -> object:
    if form == "tokens" and isinstance(value, str):
        return _token_words(value)
    if form == "names" and isinstance(value, str):
        return tuple(word.strip() for word in value.split(","))
    return tuple(value) if isinstance(value, list) else value


def _token_words(text: str) -> tuple[str, ...]:
    """Splits words of tokens at commas, without blanks at their ends, but those that all begin with: ` yes, no`."""
    words = text.split(",")
    plain = [word for word in words if not word[:1].isspace()]
    if words[0] in plain:
        return tuple(word.strip() for word in words)
    if plain:
        raise InvalidRequest(
            f"labels {text!r}: {words[0]!r} begins with a blank and {plain[0]!r} with none: begin all with one, or none"
        )
    return tuple(word.rstrip() for word in words)
