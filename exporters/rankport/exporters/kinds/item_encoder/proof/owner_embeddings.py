"""The owner's texts encoded by an item encoder bundle, through the whole in-process runtime."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.options.reference_file import Reference
from rankport.exporters.proof.agreement import (
    AgreementLimits,
    OwnerAgreement,
    agreement_of_embeddings,
    agreement_of_similarities,
)
from rankport.exporters.proof.emulation import Runnable
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.prompt.encoder import PromptEncoder

_TEXTS_A_CALL = 256


def run_reference(place: Runnable, manifest: Manifest, options: ProofOptions) -> OwnerAgreement | None:
    """Encodes the owner's texts and compares; None without any. Texts beyond the limits are cut, as in production.

    Raises InvalidRequest for the owner's embeddings of another shape; the message names the line.
    """
    reference = options.reference
    if reference is None:
        return None
    limits = AgreementLimits.of(options.tolerance, manifest)
    texts = _texts(reference)
    truncated = len(PromptEncoder.from_bundle(place.bundle).encode_items(texts, "truncate").truncated)
    with ItemEncoder.load(place.bundle, config=place.config) as encoder:
        tokens = np.concatenate(
            [
                encoder.encode(texts[start : start + _TEXTS_A_CALL], truncation="truncate")
                for start in range(0, len(texts), _TEXTS_A_CALL)
            ]
        )
    if reference.embeddings:
        return agreement_of_embeddings(reference, list(tokens), truncated, limits)
    by_text = dict(zip(texts, _unit(tokens), strict=True))
    cosines = np.array([by_text[a] @ by_text[b] for a, b in (pair.texts for pair in reference.pairs)])
    return agreement_of_similarities(reference, cosines, truncated, limits)


def _texts(reference: Reference) -> Sequence[str]:
    """Lists the texts, each once."""
    if reference.embeddings:
        return [row.text for row in reference.embeddings]
    return list(dict.fromkeys(text for pair in reference.pairs for text in pair.texts))


def _unit(tokens: NDArray[np.floating]) -> NDArray[np.float64]:
    """Makes one vector of unit length of each text's tokens. [texts, k * hidden]"""
    flat = tokens.astype(np.float64).reshape(len(tokens), -1)
    unit: NDArray[np.float64] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    return unit
