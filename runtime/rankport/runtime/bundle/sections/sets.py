"""The section `sets` of a manifest: what a ranker of sets is given of events and candidates, and who sees whom."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rankport.protos.wording import repeated
from rankport.runtime.bundle.sections.wide import WideFeature
from rankport.runtime.bundle.strict import Strict

Count = Annotated[int, Field(gt=0)]
FeatureName = Annotated[str, Field(pattern=r"^\S(.{0,126}\S)?$")]
TableName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
RowType = Literal["float32", "float16", "int8"]
IdType = Literal["int64", "uint64"]
MaskPolicy = Literal["independent", "set-wise", "top"]


class IdTable(Strict):
    """Table of embeddings by id: outside the graphs, its rows memory-mapped."""

    rows: Count
    width: Count
    # `direct`: an id is its row. `keys`: the row of an equal key. `modulo`: row = id mod rows, never negative.
    # `splitmix64`: row = splitmix64(id XOR seed) mod rows, of ids as unsigned 64 bits.
    lookup: Literal["direct", "keys", "modulo", "splitmix64"] = "direct"
    ids: IdType = "int64"
    keys: Annotated[int, Field(gt=0, lt=2**32)] | None = (
        None  # of lookup `keys`: how many; null: as many as rows
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    unknown: Literal["zero", "shared", "refuse"] = "refuse"  # what an id without a row means
    shared_row: Annotated[int, Field(ge=0)] | None = None  # of `shared`

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if (self.unknown == "shared") != (self.shared_row is not None):
            raise ValueError(f"shared_row goes with unknown = shared, and unknown is {self.unknown}")
        if self.shared_row is not None and self.shared_row >= self.rows:
            raise ValueError(f"shared_row is {self.shared_row} of {self.rows} rows")
        if self.seed and self.lookup != "splitmix64":
            raise ValueError(f"seed goes with the hash splitmix64, and lookup is {self.lookup}")
        if self.keys is not None and self.lookup != "keys":
            raise ValueError(f"keys goes with lookup = keys, and lookup is {self.lookup}")
        if self.lookup == "keys" and self.rows >= 2**32:
            raise ValueError(f"rows is {self.rows}: a table with keys has fewer than 2**32")
        return self

    @property
    def key_count(self) -> int:
        """Counts the keys; 0 where ids are not looked up by key."""
        return 0 if self.lookup != "keys" else self.rows if self.keys is None else self.keys


class IdFeature(Strict):
    """Id, looked up in a table."""

    source: Literal["id"]
    name: FeatureName
    table: TableName


class DenseFeature(Strict):
    """Vector that a request brings."""

    source: Literal["dense"]
    name: FeatureName
    width: Count


class ContentFeature(Strict):
    """Embedding of a text: by key from a token store, or as a request brings it."""

    source: Literal["content"]
    name: FeatureName
    width: Count  # tokens x hidden size of the encoder


class ScalarFeature(WideFeature):
    """Number, filled and scaled as it says."""

    source: Literal["scalar"]


SetFeature = Annotated[
    IdFeature | DenseFeature | ContentFeature | ScalarFeature, Field(discriminator="source")
]


class SetMask(Strict):
    """Whom a candidate sees beside the history and itself."""

    policy: MaskPolicy
    top_k: Count | None = (
        None  # of `top`: how many of the first, independent pass see each other in a second one
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if (self.policy == "top") != (self.top_k is not None):
            raise ValueError(f"top_k goes with the policy top, and the policy is {self.policy}")
        return self


class SetSchema(Strict):
    """Features of events and candidates in the order of the graphs' inputs, tables, limits and mask."""

    tables: dict[TableName, IdTable] = Field(default_factory=dict)
    event: Annotated[list[SetFeature], Field(min_length=1)]
    candidate: Annotated[list[SetFeature], Field(min_length=1)]
    mask: SetMask
    times: bool = False  # events have times, in whole seconds, and a request its own
    max_events: Count
    max_candidates: Count

    @model_validator(mode="after")
    def _named(self) -> Self:
        for side, features in (("event", self.event), ("candidate", self.candidate)):
            if twice := repeated(feature.name for feature in features):
                raise ValueError(f"{side}: feature {twice[0]!r} is named twice")
            for feature in features:
                if isinstance(feature, IdFeature) and feature.table not in self.tables:
                    raise ValueError(
                        f"{side}: feature {feature.name!r} has table {feature.table!r}, not in tables"
                    )
        used = {each.table for each in (*self.event, *self.candidate) if isinstance(each, IdFeature)}
        unused = sorted(self.tables.keys() - used)
        if unused:
            raise ValueError(f"tables: {unused[0]!r} is of no feature")
        return self

    def width(self, features: Sequence[SetFeature], *, but_ids: bool = False) -> int:
        """Counts the values of features beside each other, of ids too unless `but_ids`."""
        counted = (each for each in features if not (but_ids and isinstance(each, IdFeature)))
        return sum(self.width_of(feature) for feature in counted)

    def width_of(self, feature: SetFeature) -> int:
        """Counts the values of one feature."""
        if isinstance(feature, IdFeature):
            return self.tables[feature.table].width
        return 1 if isinstance(feature, ScalarFeature) else feature.width


class TableFile(Strict):
    """Files of a table in the bundle: its rows, and the keys that ids are looked up by."""

    file: str
    dtype: RowType
    keys: str | None = None


class Sets(SetSchema):
    """Contents of the section: the schema, where the rows of its tables are, and how heads are combined."""

    files: dict[TableName, TableFile] = Field(default_factory=dict)  # one a table
    head_weights: dict[str, float]  # of the combination, where a request gives none; the other heads count 0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.files.keys() != self.tables.keys():
            raise ValueError(f"files are of {sorted(self.files)}, tables are {sorted(self.tables)}")
        for name, table in self.tables.items():
            if (table.lookup == "keys") != (self.files[name].keys is not None):
                raise ValueError(f"files.{name}.keys goes with lookup = keys, and lookup is {table.lookup}")
        return self
