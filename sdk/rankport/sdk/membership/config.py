"""Knobs of a membership audit, with the one place for their defaults and help texts. Imports little."""

from dataclasses import dataclass, field
from typing import Literal

from rankport.protos.errors import InvalidRequest
from rankport.protos.flags import flag
from rankport.runtime.jobs.config import FileColumns, FileFormat
from rankport.runtime.options import check_ranges

Distance = Literal["cosine", "euclidean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserColumns:
    """Columns of the files of members, non-members and references. Raises `InvalidRequest` for a value out of range."""

    user_column: str = field(default="user", metadata=flag("Column with the user whose text a row is."))
    text_columns: tuple[str, ...] = field(
        default=("text",),
        metadata=flag(
            "Column with the text to encode; repeat it to join several.", name="--text-column", form="repeat"
        ),
    )
    separator: str = field(
        default=" ",
        metadata=flag("Put between the texts of several columns. [default: a blank]", hide_default=True),
    )
    file_format: FileFormat | None = field(
        default=None, metadata=flag("Format of the files, if their names do not tell.", name="--format")
    )
    max_row_length: int = field(
        default=FileColumns().max_row_length,
        metadata=flag("Longest row of a CSV, in characters, or of a JSONL, in bytes.", least=1),
    )

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def of_rows(self) -> FileColumns:
        """Columns of a file whose items are the users' texts."""
        return FileColumns(
            id_column=self.user_column,
            text_columns=self.text_columns,
            separator=self.separator,
            file_format=self.file_format,
            max_row_length=self.max_row_length,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipConfig:
    """Knobs of what is measured, and the limit of a release. Raises `InvalidRequest` for a value out of range."""

    max_auc: float | None = field(
        default=None,
        metadata=flag(
            "Exit 1 if an attack's AUC is above this: the lower end of its interval.", least=0.5, most=1
        ),
    )
    strict: bool = field(
        default=False,
        metadata=flag("Compare the upper end: a release must show that it is below --max-auc."),
    )
    distance: Distance = field(
        default="cosine", metadata=flag("Distance of two embeddings: the one that the encoder is used with.")
    )
    references: int = field(
        default=2000, metadata=flag("Texts of strangers that distances are measured to.", least=50)
    )
    min_users: int = field(
        default=50, metadata=flag("Fewest users of a side that an audit is made of.", least=10)
    )
    min_texts: int = field(
        default=2, metadata=flag("Users with fewer texts are left out, and counted.", least=2)
    )
    max_texts: int = field(
        default=32, metadata=flag("Texts of a user that are looked at, drawn at random.", least=2)
    )
    folds: int = field(default=5, metadata=flag("Parts that the users are split into, by user.", least=2))
    repeats: int = field(default=3, metadata=flag("Splits whose scores are averaged.", least=1))
    resamples: int = field(
        default=1000, metadata=flag("Bootstrap resamples of the users for each interval.", least=100)
    )
    null_rounds: int = field(
        default=20, metadata=flag("Repetitions with shuffled membership: what no leak looks like.", least=1)
    )
    seed: int = field(default=0, metadata=flag("Seed of all that is drawn.", least=0))

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.distance not in ("cosine", "euclidean"):
            raise InvalidRequest(f"distance is {self.distance!r}: it must be cosine or euclidean")
        if self.max_texts < self.min_texts:
            raise InvalidRequest(
                f"max_texts is {self.max_texts}: it must be at least min_texts, {self.min_texts}"
            )
        if self.strict and self.max_auc is None:
            raise InvalidRequest("strict (--strict) compares with max_auc (--max-auc): give it too")


DEFAULTS = MembershipConfig()
