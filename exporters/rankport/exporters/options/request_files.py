"""Files of real requests and of the owner's scores that an export, or a proof, is given. Reads none of them."""

import os
from dataclasses import dataclass

from rankport.exporters.options.checks import require_choice
from rankport.exporters.options.reference_file import TRANSFORMS, ReferenceTransform
from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag

StrPath = str | os.PathLike[str]

REFERENCE_FLAG = flag(
    "JSONL of what your own pipeline gives, which the bundle must give too: of a ranker "
    '{"prefix":…, "items":[…], "scores":[…]} or {"prefix":…, "item":…, "score":…}; of an item encoder '
    '{"item":…, "embedding":[…]} or {"a":…, "b":…, "score":…}.'
)
TRANSFORM_FLAG = flag(
    "What makes your score the bundle's: none, sigmoid (of your logit), logit (of your probability), exp (of your log "
    "probability), softmax (of your label logits, a list a score); rank compares the order alone.",
    metavar="HOW",
)


def require_transform(reference: StrPath | None, transform: str) -> None:
    """Raises InvalidRequest for a transform that is none, or of no reference."""
    require_choice("reference_transform", transform, TRANSFORMS)
    if reference is None and transform != "none":
        raise InvalidRequest(
            f"--reference-transform {transform} goes with --reference, whose scores it is of"
        )


@dataclass(frozen=True, slots=True)
class RequestFiles:
    """Files of real requests, for a kind that is judged or calibrated on some."""

    judged: StrPath | None = None
    calibration: StrPath | None = None
    store: StrPath | None = None  # token store for keys in all of them
    reference: StrPath | None = None  # what the owner's own pipeline gave
    reference_transform: ReferenceTransform = "none"


def require_store_is_read(files: RequestFiles) -> None:
    """Raises InvalidRequest for a store beside no file whose keys it has the tokens of."""
    if files.store is not None and (files.judged, files.calibration, files.reference) == (None, None, None):
        raise InvalidRequest(
            "--store goes with --judged, --calibration or --reference: it holds the tokens of their keys"
        )
