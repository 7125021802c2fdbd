"""`run_dataset_job`: files of items to a dataset of embedding tokens, in this process."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from rankport.runtime.jobs.batching import windows
from rankport.runtime.jobs.datasets.groups import FileGroup, groups_of
from rankport.runtime.jobs.datasets.part_maker import Line, PartMaker, Place, Rows, Target, line_of
from rankport.runtime.jobs.datasets.tally import Tally
from rankport.runtime.jobs.encode_report import EncodeProgress, EncodeReport
from rankport.runtime.jobs.key_set import KeySet
from rankport.runtime.jobs.row_encoder import Encoder
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.jobs.stages import read_ahead


def run_dataset_job(
    encoder: Encoder,
    target: Target,
    files: Sequence[ItemsFile],
    *,
    on_progress: Callable[[EncodeProgress], None] | None = None,
    on_bad_row: Callable[[BadRow], None] | None = None,
) -> EncodeReport:
    """Encodes the rows of files into the dataset `target`. The same call again makes only parts that are missing.

    Raises:
        InvalidRequest: a file broke off.
        BackendError: the encoder failed as a whole.
        StoreError: a part cannot be written, or another job fills the folder. In all cases a rerun continues.
    """
    seen = KeySet()
    with (
        Tally(target, files, on_progress, on_bad_row) as tally,
        closing(read_ahead(_windows(groups_of(files), target.config.window_rows), 1)) as ahead,
    ):
        maker = PartMaker(encoder, target)
        for place, rows in ahead:
            outcome, made = maker.part(place, rows, _repeated(rows, seen))
            tally.take(outcome, made=made)
        return tally.finish()


def _windows(groups: Sequence[FileGroup], size: int) -> Iterator[tuple[Place, Rows]]:
    for group in groups:
        for index, rows in windows(group.rows(), size):
            yield Place(group.first, index), rows


def _repeated(rows: Rows, seen: KeySet) -> frozenset[Line]:
    """Finds the lines whose id was seen, and notes the ids of the others."""
    usable = [row for row in rows if isinstance(row, ItemRow)]
    new = seen.add([row.id for row in usable])
    return frozenset(line_of(row) for row, first in zip(usable, new, strict=True) if not first)
