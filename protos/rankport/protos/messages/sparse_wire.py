"""Answers of `Embedding.EncodeSparse` <-> `SparseRows`."""

import numpy as np

from rankport.protos.messages.wire_parts import require_fingerprint
from rankport.protos.sparse import SparseRows, checked_rows
from rankport.protos.v1 import rankport_pb2 as pb


def sparse_response(rows: SparseRows, fingerprint: str) -> pb.EncodeSparseResponse:
    """Writes the weights of texts as a message."""
    return pb.EncodeSparseResponse(
        fingerprint=fingerprint,
        indices=rows.indices.tolist(),
        values=rows.values.tolist(),
        lengths=np.diff(rows.offsets).tolist(),
        width=rows.width,
    )


def sparse_result(response: pb.EncodeSparseResponse, fingerprint: str | None = None) -> SparseRows:
    """Reads the weights of texts.

    Raises `InvalidRequest` if they do not fit each other, `PairingError` if of another `fingerprint` than given.
    """
    require_fingerprint(fingerprint, response.fingerprint)
    lengths = np.array(response.lengths, np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    indices, values = np.array(response.indices, np.int32), np.array(response.values, np.float32)
    return checked_rows(SparseRows(indices, values, offsets, response.width))
