"""`PartRows`: the rows of a part as they come from the encoder, and its table. Owns the form of sparse parts.

    id            string
    indices       list<int32>, token ids of the weights that are not 0, ascending
    values        list<float32>, a weight for each of them
    content_hash  fixed_size_binary[16], as of embedding tokens (`parts`)

The schema's metadata says whose weights they are, as that of tokens does, and the size of the vocabulary.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from rankport.protos.sparse import SparseRows
from rankport.runtime.jobs.datasets.parts import ENCODER, FORMAT_KEY, SPEC, schema_of, table_of
from rankport.runtime.jobs.row_encoder import EncodedRow, content_hash
from rankport.runtime.store.token_spec import CONTENT_HASH_BYTES, TokenSpec

_FORMAT = b"sparse-weights 1"


@dataclass(frozen=True, slots=True)
class WeightSpec:
    """Spec of a sparse encoder's weights: how many tokens there may be weights of."""

    vocabulary: int
    dtype: str = "float32"

    @property
    def numpy_dtype(self) -> "np.dtype[np.floating]":
        """Type of the weights."""
        return np.dtype(self.dtype)

    def to_json(self) -> str:
        """Writes the spec."""
        return json.dumps({"vocabulary": self.vocabulary, "dtype": self.dtype})


PartSpec = TokenSpec | WeightSpec


def schema_of_part(fingerprint: str, spec: PartSpec) -> pa.Schema:
    """Makes the schema of an encoder's tokens or weights. Raises as `schema_of`."""
    if isinstance(spec, TokenSpec):
        return schema_of(fingerprint, spec)
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("indices", pa.list_(pa.int32()), nullable=False),
            pa.field("values", pa.list_(pa.float32()), nullable=False),
            pa.field("content_hash", pa.binary(CONTENT_HASH_BYTES), nullable=False),
        ],
        {FORMAT_KEY: _FORMAT, ENCODER: fingerprint.encode(), SPEC: spec.to_json().encode()},
    )


@dataclass(slots=True)
class PartRows:
    """Rows of one part, in order. Of sparse ones no zeros are kept."""

    spec: PartSpec
    truncated: int = 0
    _ids: list[str] = field(default_factory=list)
    _hashes: list[bytes] = field(default_factory=list)
    _tokens: list[np.ndarray] = field(default_factory=list)
    _weights: list[SparseRows] = field(default_factory=list)

    def __len__(self) -> int:
        """Counts the rows."""
        return len(self._ids)

    def take(self, rows: Sequence[EncodedRow]) -> None:
        """Takes the rows of a batch."""
        self._ids += [row.row.id for row in rows]
        self._hashes += [content_hash(row.row.text, truncated=row.truncated) for row in rows]
        self.truncated += sum(row.truncated for row in rows)
        if isinstance(self.spec, TokenSpec):
            self._tokens += [row.tokens for row in rows]
        elif rows:
            self._weights.append(SparseRows.of_dense(np.concatenate([row.tokens for row in rows])))

    def table(self, schema: pa.Schema) -> pa.Table:
        """Makes the part's table."""
        if isinstance(self.spec, TokenSpec):
            tokens = np.array(self._tokens, self.spec.numpy_dtype)
            shaped = tokens.reshape(len(self), self.spec.tokens, self.spec.hidden_size)
            return table_of(schema, self._ids, shaped, self._hashes)
        rows = SparseRows.joined(self._weights, self.spec.vocabulary)
        offsets = pa.array(rows.offsets, pa.int32())
        return pa.Table.from_arrays(
            [
                pa.array(self._ids, pa.string()),
                pa.ListArray.from_arrays(offsets, pa.array(rows.indices)),
                pa.ListArray.from_arrays(offsets, pa.array(rows.values)),
                pa.array(self._hashes, pa.binary(CONTENT_HASH_BYTES)),
            ],
            schema=schema,
        )
