"""Tensors of the protocol <-> numpy arrays and texts, strictly: what does not fit its shape is an error."""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest
from rankport.protos.kserve import kserve_pb2 as pb
from rankport.protos.wording import counted

InputTensor = pb.ModelInferRequest.InferInputTensor
Value = NDArray[Any] | Sequence[str]

BYTES = "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
}
_CONTENTS = {
    "FP32": "fp32_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    BYTES: "bytes_contents",
}
_LENGTH = struct.Struct("<I")
_MAX_AXES = 4


@dataclass(frozen=True, slots=True)
class Tensors:
    """Inputs of a request by name, each read when it is asked for."""

    by_name: dict[str, tuple[InputTensor, bytes | None]]  # and the raw content, where it is given so

    @classmethod
    def of(cls, request: pb.ModelInferRequest) -> "Tensors":
        """Pairs inputs with contents. Raises `InvalidRequest` for two of one name, or too few raw contents."""
        raw: Sequence[bytes | None] = request.raw_input_contents or [None] * len(request.inputs)
        if len(raw) != len(request.inputs):
            raise InvalidRequest(f"there are {len(request.inputs)} inputs and {len(raw)} raw_input_contents")
        by_name: dict[str, tuple[InputTensor, bytes | None]] = {}
        for tensor, content in zip(request.inputs, raw, strict=True):
            if tensor.name in by_name:
                raise InvalidRequest(f"input {tensor.name!r} is given twice")
            by_name[tensor.name] = (tensor, content)
        return cls(by_name)

    def claimed(self, name: str, axes: int) -> int:
        """Returns the product of the first sizes that an input's shape claims; 0 where it is not given."""
        shape = self.by_name[name][0].shape[:axes] if name in self.by_name else []
        return math.prod(shape) if shape else 0

    def texts(self, name: str) -> list[str]:
        """Reads an input of BYTES [texts] as UTF-8; InvalidRequest names the input and the text at fault."""
        tensor, raw = self._checked(name, (BYTES,), axes=1)
        if raw is None:
            _require_count(name, len(tensor.contents.bytes_contents), tensor)
            values = list(tensor.contents.bytes_contents)
        else:
            values = unpacked(raw, name, tensor.shape[0])
        texts = []
        for index, value in enumerate(values):
            try:
                texts.append(value.decode())
            except UnicodeDecodeError as error:
                raise InvalidRequest(
                    f"input {name!r}: text {index} is no valid UTF-8: {error.reason}"
                ) from None
        return texts

    def array(self, name: str, datatypes: tuple[str, ...], axes: int) -> NDArray[Any]:
        """Reads an input of numbers; InvalidRequest for another datatype, number of axes, or size than its shape's."""
        tensor, raw = self._checked(name, datatypes, axes)
        dtype = DTYPES[tensor.datatype]
        if raw is not None:
            if len(raw) != math.prod(tensor.shape) * dtype.itemsize:
                raise InvalidRequest(
                    f"input {name!r} has {len(raw)} raw bytes, shape {list(tensor.shape)} of {tensor.datatype} takes "
                    f"{math.prod(tensor.shape) * dtype.itemsize}"
                )
            return np.frombuffer(raw, dtype).reshape(tuple(tensor.shape))
        if tensor.datatype not in _CONTENTS:
            raise InvalidRequest(f"input {name!r}: {tensor.datatype} travels in raw_input_contents only")
        values = getattr(tensor.contents, _CONTENTS[tensor.datatype])
        _require_count(name, len(values), tensor)
        return np.array(values, dtype).reshape(tuple(tensor.shape))

    def _checked(self, name: str, datatypes: tuple[str, ...], axes: int) -> tuple[InputTensor, bytes | None]:
        tensor, raw = self.by_name[name]
        if tensor.datatype not in datatypes:
            raise InvalidRequest(f"input {name!r} is {tensor.datatype!r:.40}; give {' or '.join(datatypes)}")
        if len(tensor.shape) != axes:
            raise InvalidRequest(f"input {name!r} has {len(tensor.shape)} axes; give {axes}")
        shape = list(tensor.shape)
        if min(shape) < 0 or (shape[0] and not math.prod(shape)) or math.prod(shape[1:]) >= 2**31:
            raise InvalidRequest(
                f"input {name!r} has shape {shape}: a size is below 0, or rows have no values"
            )
        if raw is not None and tensor.HasField("contents"):
            raise InvalidRequest(f"input {name!r} has contents and raw_input_contents; give one of them")
        return tensor, raw


def packed(texts: Iterable[str]) -> bytes:
    """Writes texts as raw BYTES: each with its length in four bytes, little-endian, before it."""
    return b"".join(_LENGTH.pack(len(text)) + text for text in map(str.encode, texts))


def unpacked(raw: bytes, name: str, count: int) -> list[bytes]:
    """Splits raw BYTES into `count` values, as `packed` lays them out. Raises `InvalidRequest` if it has others."""
    values: list[bytes] = []
    place = 0
    while len(values) < count:
        if place + 4 > len(raw) or place + 4 + (length := _LENGTH.unpack_from(raw, place)[0]) > len(raw):
            raise InvalidRequest(f"input {name!r}: the raw text {len(values)} at byte {place} is cut off")
        values.append(raw[place + 4 : place + 4 + length])
        place += 4 + length
    if place != len(raw):
        raise InvalidRequest(
            f"input {name!r} has {len(raw)} raw bytes, and {place} with {counted(count, 'text')}"
        )
    return values


def _require_count(name: str, count: int, tensor: InputTensor) -> None:
    if count != math.prod(tensor.shape):
        raise InvalidRequest(
            f"input {name!r} has {counted(count, 'value')}; its shape {list(tensor.shape)} says otherwise"
        )


def add_output(response: pb.ModelInferResponse, name: str, value: Value) -> None:
    """Adds an output, its content raw. Texts are BYTES [texts]."""
    if isinstance(value, np.ndarray):
        dtype = value.dtype.newbyteorder("<")
        datatype = next(known for known, own in DTYPES.items() if own == dtype)
        shape: Sequence[int] = value.shape
        raw = value.astype(dtype, copy=False).tobytes()
    else:
        datatype, shape = BYTES, [len(value)]
        raw = packed(value)
    response.outputs.add(name=name, datatype=datatype, shape=shape)
    response.raw_output_contents.append(raw)
