"""Weights of a vocabulary: representations of which only what is not 0 is kept."""

import numpy as np

from rankport.protos.errors import BackendError, InvalidRequest
from rankport.protos.sparse import SparseRows
from rankport.runtime.bundle.manifest import Manifest
from rankport.runtime.kinds.text_engine import WeightRows
from rankport.runtime.kinds.two_tower.rules import is_sparse


def require_weights(manifest: Manifest) -> None:
    """Raises InvalidRequest for a bundle whose representations are no weights of tokens."""
    if not is_sparse(manifest):
        raise InvalidRequest(
            f"bundle {manifest.name!r} makes dense representations, no weights of a vocabulary: ask it for these "
            "(encode, represent)"
        )


def require_storable(manifest: Manifest) -> None:
    """Raises InvalidRequest for a bundle whose representations no store keeps."""
    if is_sparse(manifest):
        raise InvalidRequest(
            f"store: bundle {manifest.name!r} makes weights of a vocabulary, which no store keeps: leave the store out"
        )


def finite_weights(answer: WeightRows) -> SparseRows:
    """Gives the weights. Raises BackendError where one is not finite."""
    if not np.isfinite(answer.rows.values).all():
        raise BackendError("weights are not finite: check the texts and the checkpoint")
    return answer.rows
