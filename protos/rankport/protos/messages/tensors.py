"""numpy arrays <-> the wire's tensors and ragged token ids, strictly: bytes that do not fit are an error."""

import math
from collections.abc import MutableSequence, Sequence

import numpy as np
from numpy.typing import NDArray

from rankport.protos.arguments import checked_run
from rankport.protos.columns import RaggedIds
from rankport.protos.errors import InvalidRequest
from rankport.protos.v1 import rankport_pb2 as pb

Ids = Sequence[int] | NDArray[np.integer]

_MAX_AXES = 4
_MAX_SIZE = 2**31 - 1

# Little-endian on every machine.
_DTYPES: dict[int, np.dtype[np.floating]] = {
    pb.DTYPE_FLOAT32: np.dtype("<f4"),
    pb.DTYPE_FLOAT16: np.dtype("<f2"),
}


def tensor_message(array: NDArray[np.floating], field: str) -> pb.Tensor:
    """Writes the array as a tensor; wider floats travel as float32, of which what it cannot hold is infinite.

    Raises:
        InvalidRequest: a dtype the wire does not carry; the message starts with `field`.
    """
    if array.dtype.kind == "f" and array.dtype.itemsize >= 8:
        with np.errstate(over="ignore"):  # the server refuses it by its place, as a model in process does
            array = array.astype(np.float32)
    for code, dtype in _DTYPES.items():
        if array.dtype.kind == "f" and array.dtype.itemsize == dtype.itemsize:  # of either byte order
            data = array.astype(dtype, copy=False).tobytes()
            return pb.Tensor(dtype=pb.DType.ValueType(code), shape=array.shape, data=data)
    raise InvalidRequest(f"{field} is an array of {array.dtype}; give float16, float32 or float64")


def tensor_array(tensor: pb.Tensor, field: str) -> NDArray[np.floating]:
    """Reads the tensor as a read-only array over the message's own bytes.

    Raises:
        InvalidRequest: an unknown dtype, a shape out of range or with rows of no values, or a byte count that is not
            the shape's.
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        known = ", ".join(f"{code} ({dtype.name})" for code, dtype in _DTYPES.items())
        raise InvalidRequest(f"{field}.dtype is {tensor.dtype}; this version knows {known}")
    shape = _checked_shape(tensor, field)
    expected = math.prod(shape) * dtype.itemsize
    data = tensor.data  # each look at it is a copy
    if len(data) != expected:
        raise InvalidRequest(
            f"{field}.data has {len(data)} bytes; shape {list(shape)} of {dtype.name} takes {expected}"
        )
    return np.frombuffer(data, dtype).reshape(shape)


def _checked_shape(tensor: pb.Tensor, field: str) -> tuple[int, ...]:
    """Takes a shape that costs no more than its bytes: rows without values would, since answers are made for each."""
    if len(tensor.shape) > _MAX_AXES:
        raise InvalidRequest(f"{field}.shape has {len(tensor.shape)} axes; the most are {_MAX_AXES}")
    shape = tuple(tensor.shape)
    values_of_row = math.prod(shape[1:])
    # Sizes beside one of 0 count too: numpy refuses shapes by their product.
    if any(size < 0 for size in shape) or math.prod(size or 1 for size in shape[1:]) > _MAX_SIZE:
        raise InvalidRequest(
            f"{field}.shape is {list(shape)}; sizes are 0 or more, and a row has at most {_MAX_SIZE} values"
        )
    if not values_of_row and shape[0]:
        raise InvalidRequest(
            f"{field}.shape is {list(shape)}: {shape[0]} rows without values; the first size of an empty tensor is 0"
        )
    return shape


def float32_array(tensor: pb.Tensor, field: str, axes: int) -> NDArray[np.float32]:
    """Reads as `tensor_array`, of float32 and with `axes` axes, or `InvalidRequest`."""
    array = tensor_array(tensor, field)
    if tensor.dtype != pb.DTYPE_FLOAT32 or array.ndim != axes:
        raise InvalidRequest(f"{field} is {array.dtype} with {array.ndim} axes; expected float32 with {axes}")
    return array.astype(np.float32, copy=False)


def ids_message(ids: Ids, where: str) -> pb.TokenIds:
    """Writes token ids as a message; `InvalidRequest` if one of them is no integer of 64 bits."""
    message = pb.TokenIds()
    _extend(message.ids, ids, where)
    return message


def ragged_ids(message: pb.RaggedTokenIds, field: str) -> RaggedIds:
    """Reads the runs of token ids; `InvalidRequest` if the lengths do not add up to the ids."""
    lengths = np.array(message.lengths, np.int64)
    negative = np.flatnonzero(lengths < 0)
    if len(negative):
        index = int(negative[0])
        raise InvalidRequest(f"{field}.lengths[{index}] is {lengths[index]}; lengths are 0 or more")
    total = sum(message.lengths)  # of any size
    if total != len(message.ids):
        raise InvalidRequest(
            f"{field}.lengths add up to {total} but {field}.ids holds {len(message.ids)} ids"
        )
    return RaggedIds.of_lengths(np.array(message.ids, np.int64), lengths)


def _extend(field: MutableSequence[int], ids: Ids, where: str) -> None:
    checked = checked_run(ids, where)
    try:
        field.extend(checked)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{where} holds a token id of more than 64 bits: {error}") from error
