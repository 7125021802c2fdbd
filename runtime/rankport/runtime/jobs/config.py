"""Knobs of the encode job, with the one place for their defaults and help texts. Imports little."""

from dataclasses import dataclass, field, replace
from typing import Literal

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag, in_range
from rankport.protos.types import Truncation
from rankport.runtime.config import Device, check_device
from rankport.runtime.options import check_partners, check_ranges

FileFormat = Literal["csv", "jsonl", "parquet", "arrow", "lance", "dead-letters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileColumns:
    """Columns of a file of items that make its rows, and how long a row may be. Raises as `EncodeJobConfig`."""

    id_column: str = field(default="id", metadata=flag("Column with the key that requests will name."))
    text_columns: tuple[str, ...] = field(
        default=("text",),
        metadata=flag(
            "Column with the text to encode; repeat it to join several.", name="--text-column", form="repeat"
        ),
    )
    template: str | None = field(
        default=None,
        metadata=flag(
            "Text out of several columns, with a limit in characters for each, in place of --text-column: "
            '"{title}. {description:200}".',
            name="--text",
            metavar="TEMPLATE",
        ),
    )
    deleted_column: str | None = field(
        default=None, metadata=flag("Column that says which rows are of items to delete from the store.")
    )
    shard: str | None = field(
        default=None,
        metadata=flag(
            "Take the share of the items that 3/16 names: ids are dealt out by their hash, however files are cut.",
            metavar="I/N",
        ),
    )
    separator: str = field(
        default=" ",
        metadata=flag("Put between the texts of several columns. [default: a blank]", hide_default=True),
    )
    file_format: FileFormat | None = field(
        default=None,
        metadata=flag(
            "Format of --items, if its name does not tell; dead-letters: rows that --bad-rows wrote, mended.",
            name="--format",
        ),
    )
    max_row_length: int = field(
        default=16 * 2**20,
        metadata=flag(
            "Longest row of a CSV, in characters, or of a JSONL, in bytes; longer ones are bad rows.", least=1
        ),
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.template is not None and (self.text_columns, self.separator) != (("text",), " "):
            raise InvalidRequest(
                f"the text template {self.template!r:.60} says columns and what is between them: leave text columns "
                "and separator out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeJobConfig:
    """Knobs of a job. Raises `InvalidRequest` for a value out of range."""

    batch_size: int = field(
        default=64, metadata=flag("Rows encoded, and stored durably, at a time.", least=1)
    )
    window_batches: int = field(default=32, metadata=in_range(least=1))  # sorted by length together
    truncation: Truncation = field(
        default="truncate", metadata=flag("Texts over the encoder's limit: cut and counted, or bad rows.")
    )
    prune: bool = field(
        default=False,
        metadata=flag("At the end, delete stored items that --items does not have.", name="--prune"),
    )
    max_prune_share: float = field(
        default=0.2,
        metadata=flag(
            "Largest share of the stored items that --prune deletes: where more are gone it deletes none, and the job "
            "has failed, as a file may be cut short.",
            least=0,
            most=1,
            needs="prune",
        ),
    )
    max_bad_rows_kept: int = 100  # in the report; all are counted
    # Single rows; then the encoder is at fault and the job ends.
    max_failures_in_a_row: int = field(default=32, metadata=in_range(least=1))

    def __post_init__(self) -> None:
        check_ranges(self)
        check_partners(self)

    @property
    def window_rows(self) -> int:
        """Rows sorted by length together."""
        return self.batch_size * self.window_batches


DEFAULTS = EncodeJobConfig()
"""The job on a CPU, without a word from the user."""

GPU_DEFAULTS = EncodeJobConfig(batch_size=1024)
"""The job on a GPU, without a word from the user: a pass takes some ten thousand tokens."""


def encode_job_config(device: Device = "cpu", **given: object) -> EncodeJobConfig:
    """Takes the defaults of a job on a device, but for what is `given` and not None. Raises as `EncodeJobConfig`."""
    check_device(device)
    chosen = {name: value for name, value in given.items() if value is not None}
    return replace(DEFAULTS if device == "cpu" else GPU_DEFAULTS, **chosen)  # type: ignore[arg-type]
