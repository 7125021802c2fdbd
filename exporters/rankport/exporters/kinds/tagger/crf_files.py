"""`crf.json` and `crf.safetensors`: transitions that a checkpoint's labels are decoded by. docs/tagging.md states them.

Owns their reading, strictly: what they say is honoured or refused.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import safetensors.numpy

from rankport.exporters.checkpoints.config.json_file import read_json_object
from rankport.exporters.checkpoints.sentence_transformers.modules import transformer_folder
from rankport.protos.errors import CheckpointError
from rankport.protos.reasons import reason_of
from rankport.runtime.bundle.manifest import Crf
from rankport.runtime.kinds.tagger.labels import LabelScheme
from rankport.runtime.kinds.tagger.tables import CrfTables, crf_labels, has_single

CRF_JSON, CRF_TENSORS, BUNDLE_FILE = "crf.json", "crf.safetensors", "crf.bin"
_FIELDS = {"kind", "labels", "unit", "max_segment"}
_KINDS = ("linear-chain", "semi-markov")


@dataclass(frozen=True, slots=True)
class CrfFiles:
    """A CRF of a checkpoint folder."""

    crf: Crf
    tables: CrfTables
    unit: Literal["word", "token"]  # that its transitions are between


def read_crf(checkpoint: Path, scheme: LabelScheme) -> CrfFiles | None:
    """Reads the CRF beside a checkpoint's weights; None if there is none.

    Raises CheckpointError naming file, field or tensor: one file without the other, an unknown key, labels that are
    not the head's, a table of another shape, or values that are not finite.
    """
    folder = transformer_folder(checkpoint)
    files = [folder / CRF_JSON, folder / CRF_TENSORS]
    missing = [file for file in files if not file.is_file()]
    if len(missing) == 2:
        return None
    if missing:
        raise CheckpointError(f"{missing[0]} is missing beside the other file of a CRF: a CRF has both")
    stated = read_json_object(files[0])
    crf = _stated(stated, files[0])
    labels = crf_labels(crf.kind, scheme)
    if stated.get("labels") != list(labels):
        raise CheckpointError(
            f"{files[0]}: labels is {stated.get('labels')}: a {crf.kind} CRF over this head has "
            f"{list(labels)}, in that order"
        )
    if crf.kind == "semi-markov" and not has_single(scheme, labels):
        raise CheckpointError(
            f"{files[0]}: no label of the head {list(scheme.names)} is of a segment of one unit, so some texts have no "
            "cut: a semi-markov CRF takes a head with O, or a type that one unit can be alone"
        )
    return CrfFiles(crf, _tables(files[1], crf, labels), stated["unit"])


def _stated(stated: dict[str, Any], file: Path) -> Crf:
    unknown = sorted(stated.keys() - _FIELDS)
    if unknown:
        raise CheckpointError(f"{file}: {unknown[0]!r} is unknown: there are {', '.join(sorted(_FIELDS))}")
    kind, unit, most = stated.get("kind"), stated.get("unit"), stated.get("max_segment")
    if kind not in _KINDS:
        raise CheckpointError(f"{file}: kind is {kind!r}: must be {' or '.join(_KINDS)}")
    if unit not in ("word", "token"):
        raise CheckpointError(
            f"{file}: unit is {unit!r}: must be word or token, what the transitions are between"
        )
    if kind == "linear-chain" and most is not None:
        raise CheckpointError(
            f"{file}: max_segment is {most!r}: a linear-chain CRF has no segments, leave it out"
        )
    if kind == "semi-markov" and (type(most) is not int or most < 1):
        raise CheckpointError(
            f"{file}: max_segment is {most!r}: a semi-markov CRF says the longest, 1 or more"
        )
    return Crf(kind=cast(Literal["linear-chain", "semi-markov"], kind), file=BUNDLE_FILE, max_segment=most)


def _tables(file: Path, crf: Crf, labels: tuple[str, ...]) -> CrfTables:
    try:
        stored = safetensors.numpy.load_file(file)
    except Exception as error:  # safetensors raises what it likes
        raise CheckpointError(f"{file}: no readable safetensors: {reason_of(error)}") from error
    count = len(labels)
    shapes: dict[str, tuple[int, ...]] = {"transitions": (count, count), "start": (count,), "end": (count,)}
    if crf.max_segment is not None:
        shapes["lengths"] = (count, crf.max_segment)
    wrong = sorted(stored.keys() ^ shapes.keys())
    if wrong:
        state = "is no table of" if wrong[0] in stored else "is missing for"
        raise CheckpointError(
            f"{file}: tensor {wrong[0]!r} {state} a {crf.kind} CRF, which has {sorted(shapes)}"
        )
    for name, shape in shapes.items():
        if stored[name].shape != shape or stored[name].dtype.kind != "f":
            raise CheckpointError(
                f"{file}: tensor {name!r} is {stored[name].dtype} {list(stored[name].shape)}: must be floats "
                f"{list(shape)}"
            )
        if not np.isfinite(stored[name].astype(np.float32)).all():
            raise CheckpointError(
                f"{file}: tensor {name!r} holds NaN or infinity: use -10000 for what cannot be"
            )
    # In the precision of the bundle's file.
    return CrfTables(labels, *(stored[name].astype(np.float32).astype(np.float64) for name in shapes))
