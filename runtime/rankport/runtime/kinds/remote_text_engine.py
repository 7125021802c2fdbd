"""`RemoteTextEngine`: a `TextEngine` in another process."""

from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from rankport.protos.sparse import SparseRows
from rankport.runtime.kinds.remote.messages import runs_columns
from rankport.runtime.kinds.remote.remote_engine import RemoteEngine
from rankport.runtime.kinds.text_engine import TextRows, WeightRows
from rankport.runtime.links.columns import Columns
from rankport.runtime.scheduling.futures import converted
from rankport.runtime.tokens import TokenRuns


class RemoteTextEngine(RemoteEngine):
    """Sends texts, and reads rows."""

    def submit(
        self,
        texts: TokenRuns,
        timeout_s: float | None = None,
        *,
        spent_s: float = 0.0,
        markers: NDArray[np.int64] | None = None,
    ) -> "Future[TextRows]":
        """Queues texts as `TextEngine.submit`; the future raises what that does too."""
        arrays = runs_columns("texts", texts)
        if markers is not None:
            arrays["markers"] = markers
        return converted(self._submit(arrays, len(texts.ids), timeout_s, spent_s), rows_of)

    def submit_weights(
        self, texts: TokenRuns, timeout_s: float | None = None, *, spent_s: float = 0.0
    ) -> "Future[WeightRows]":
        """Queues texts as `TextEngine.submit_weights`; the future raises what that does too."""
        arrays = runs_columns("texts", texts)
        queued = self._submit(arrays, len(texts.ids), timeout_s, spent_s, weights=True)
        return converted(queued, weights_of)


def weights_columns(answer: WeightRows) -> Columns:
    """Writes an answer without its zeros."""
    rows = answer.rows
    return Columns(
        {"queue_s": answer.queue_s, "compute_s": answer.compute_s, "width": rows.width},
        {"indices": rows.indices, "values": rows.values, "offsets": rows.offsets},
    )


def weights_of(columns: Columns) -> WeightRows:
    """Reads an answer without its zeros."""
    arrays, values = columns.arrays, columns.values
    rows = SparseRows(arrays["indices"], arrays["values"], arrays["offsets"], values["width"])
    return WeightRows(rows, values["queue_s"], values["compute_s"])


def rows_columns(rows: TextRows) -> Columns:
    """Writes an answer."""
    return Columns({"queue_s": rows.queue_s, "compute_s": rows.compute_s}, {"rows": rows.rows})


def rows_of(columns: Columns) -> TextRows:
    """Reads an answer."""
    return TextRows(columns.arrays["rows"], columns.values["queue_s"], columns.values["compute_s"])
