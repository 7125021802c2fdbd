"""`RemoteTextEngine`: a `TextEngine` in another process."""

from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.kinds.remote.messages import runs_columns
from rankport.runtime.kinds.remote.remote_engine import RemoteEngine
from rankport.runtime.kinds.text_engine import TextRows
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


def rows_columns(rows: TextRows) -> Columns:
    """Writes an answer."""
    return Columns({"queue_s": rows.queue_s, "compute_s": rows.compute_s}, {"rows": rows.rows})


def rows_of(columns: Columns) -> TextRows:
    """Reads an answer."""
    return TextRows(columns.arrays["rows"], columns.values["queue_s"], columns.values["compute_s"])
