"""Parts of a dataset of embedding tokens, which any tool reads. `part_files` has their formats.

    id            string
    tokens        fixed_size_list<float16 or float32>[k * d], row by row
    content_hash  fixed_size_binary[16], of the text, as in a token store

The schema's metadata says whose tokens they are: `rankport.format`, `rankport.encoder` (its fingerprint) and
`rankport.spec` (JSON of k, d and the element type).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rankport.protos.errors import StoreError
from rankport.runtime.jobs.datasets.formats import files_in, format_of_part
from rankport.runtime.store.token_spec import CONTENT_HASH_BYTES, TokenSpec

FORMAT = b"embedding-tokens 1"
_ROWS_AT_ONCE = 4096
FORMAT_KEY, ENCODER, SPEC = b"rankport.format", b"rankport.encoder", b"rankport.spec"
_ELEMENTS = {"float16": pa.float16(), "float32": pa.float32()}


def schema_of(fingerprint: str, spec: TokenSpec) -> pa.Schema:
    """Makes the schema of an encoder's tokens. Raises `StoreError` for a dtype that datasets do not have."""
    if spec.dtype not in _ELEMENTS:
        raise StoreError(f"tokens of dtype {spec.dtype!r} cannot be in a dataset: use {', '.join(_ELEMENTS)}")
    tokens = pa.list_(_ELEMENTS[spec.dtype], spec.elements)
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("tokens", tokens, nullable=False),
            pa.field("content_hash", pa.binary(CONTENT_HASH_BYTES), nullable=False),
        ],
        {FORMAT_KEY: FORMAT, ENCODER: fingerprint.encode(), SPEC: spec.to_json()},
    )


def whose(schema: pa.Schema, path: Path) -> tuple[str, TokenSpec]:
    """Reads the encoder's fingerprint and the spec of a part. Raises `StoreError` for what is none."""
    metadata = schema.metadata or {}
    try:
        fingerprint, spec = metadata[ENCODER].decode(), TokenSpec.from_json(metadata[SPEC])
        wanted = schema_of(fingerprint, spec)
    except (KeyError, ValueError, TypeError, StoreError) as error:
        raise StoreError(f"{path} is no part of a dataset of embedding tokens: {error}") from error
    if metadata.get(FORMAT_KEY) != FORMAT or not schema.remove_metadata().equals(wanted.remove_metadata()):
        raise StoreError(f"{path} is no part of a dataset of embedding tokens that this release reads")
    return fingerprint, spec


def table_of(
    schema: pa.Schema, ids: Sequence[str], tokens: NDArray[np.floating], content_hashes: Sequence[bytes]
) -> pa.Table:
    """Makes the rows of a part of tokens [ids, k, d]."""
    kind = schema.field("tokens").type
    flat = pa.array(np.ascontiguousarray(tokens).reshape(-1), kind.value_type)
    return pa.Table.from_arrays(
        [
            pa.array(ids, pa.string()),
            pa.FixedSizeListArray.from_arrays(flat, type=kind),
            pa.array(content_hashes, pa.binary(CONTENT_HASH_BYTES)),
        ],
        schema=schema,
    )


def tokens_of(table: pa.Table, spec: TokenSpec) -> NDArray[np.floating]:
    """Returns the tokens of a part, [rows, k, d]."""
    column = table.column("tokens").combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, spec.numpy_dtype).reshape(len(table), spec.tokens, spec.hidden_size)


def read_part(path: Path) -> pa.Table:
    """Reads a part. Raises `StoreError` for a file that cannot be read, or is none."""
    files = files_in(format_of_part(path.name))
    try:
        schema = files.schema(path)
        table = pa.Table.from_batches(list(files.batches(path, _ROWS_AT_ONCE)), schema)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    whose(schema, path)
    return table
