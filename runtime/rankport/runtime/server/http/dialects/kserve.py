"""KServe's inference protocol v2: `/v2/models/{model}/infer`, the tensors of the gRPC service as JSON, or behind it."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from rankport.protos.errors import InvalidRequest
from rankport.protos.kserve import kserve_pb2 as pb
from rankport.protos.wording import counted
from rankport.runtime.server.http.apart import ITEM_BYTES, apart
from rankport.runtime.server.http.call import Call, Reply
from rankport.runtime.server.http.dialect import Dialect, kserve_error
from rankport.runtime.server.http.forms import FAIL_FAST, Form
from rankport.runtime.server.http.scoring import own_headers
from rankport.runtime.server.kserve.inference import find, infer, totals_of
from rankport.runtime.server.kserve.tensors import BYTES, DTYPES, packed, unpacked

Parameters = Mapping[str, bool | Annotated[int, Field(ge=-(2**63), lt=2**63)] | float | str]
_SIZE, _BINARY, _ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"


class KserveInput(Form):
    """Tensor of a request: its values as they are read row by row, flat or in lists of lists, or behind the JSON."""

    name: str
    datatype: str
    shape: list[Annotated[int, Field(ge=0, lt=2**63)]]
    parameters: Parameters | None = None
    data: Annotated[list[Any], FAIL_FAST] | None = None


class KserveOutput(Form):
    """Tensor that is asked for."""

    name: str
    parameters: Parameters | None = None


class KserveInfer(Form):
    """Request of an inference."""

    id: str = ""
    model_name: str | None = None  # of KServe's own client; the path names the model
    parameters: Parameters | None = None
    inputs: list[KserveInput]
    outputs: list[KserveOutput] | None = None


async def _infer(call: Call, form: KserveInfer) -> Reply:
    name, version = call.named["model"], call.named.get("version", "")
    if form.model_name not in (None, name):
        raise InvalidRequest(
            f"model_name is {form.model_name!r:.80}, and the path names {name!r:.80}: name one"
        )
    nbytes = len(call.tensors) + sum(ITEM_BYTES * len(tensor.data or ()) for tensor in form.inputs)
    request, binary = await apart(nbytes, _request, form, call.tensors)
    served = find(call.core, name, version, call.request_id)
    with served, totals_of(call.core, served.description).timed():
        response = await infer(call.core, served, request, call.left_s)
    return await apart(response.ByteSize(), _reply, response, binary, own_headers(served.description))


def _request(form: KserveInfer, tensors: bytes) -> tuple[pb.ModelInferRequest, "_Binary"]:
    """Writes a request as the gRPC service has it, with raw contents, and tells which outputs it wants raw."""
    request = pb.ModelInferRequest(id=form.id)
    options = dict(form.parameters or {})
    binary = _Binary(_flag(options, _ALL_BINARY, "the request") or False)
    _put(request.parameters, options)
    place = 0
    for tensor in form.inputs:
        told = dict(tensor.parameters or {})
        size = told.pop(_SIZE, None)
        content = _content(tensor) if size is None else _behind(tensor, size, tensors, place)
        place += 0 if size is None else len(content)
        added = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        _put(added.parameters, told)
        request.raw_input_contents.append(content)
    if place != len(tensors):
        raise InvalidRequest(
            f"{counted(len(tensors) - place, 'byte')} of the body are of no input: say {_SIZE}"
        )
    for output in form.outputs or ():
        told = dict(output.parameters or {})
        binary.note(output.name, _flag(told, _BINARY, f"output {output.name!r:.60}"))
        _put(request.outputs.add(name=output.name).parameters, told)
    return request, binary


class _Binary:
    """Outputs that a client wants behind the JSON."""

    def __init__(self, usual: bool) -> None:
        self._usual = usual
        self._said: dict[str, bool] = {}

    def note(self, name: str, said: bool | None) -> None:
        """Notes what a client said of one; None: nothing."""
        if said is not None:
            self._said[name] = said

    def wants(self, name: str) -> bool:
        """Says whether it wants one so."""
        return self._said.get(name, self._usual)


def _flag(parameters: dict[str, Any], name: str, where: str) -> bool | None:
    value = parameters.pop(name, None)
    if value is not None and not isinstance(value, bool):
        raise InvalidRequest(f"{where}: parameter {name!r} is {value!r:.40}: give true or false")
    return value


def _put(parameters: Any, given: Mapping[str, bool | int | float | str]) -> None:
    fields = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    for name, value in given.items():
        setattr(parameters[name], fields[type(value)], value)


def _behind(tensor: KserveInput, size: object, tensors: bytes, place: int) -> bytes:
    if tensor.data is not None:
        raise InvalidRequest(f"input {tensor.name!r:.60} has data and {_SIZE}: give one of them")
    left = len(tensors) - place
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= left:
        raise InvalidRequest(
            f"input {tensor.name!r:.60}: {_SIZE} is {size!r:.40}, and behind the JSON are {counted(left, 'byte')}"
        )
    return tensors[place : place + size]


def _content(tensor: KserveInput) -> bytes:
    """Packs the values of a tensor. One whose type no model takes is told by the models, with those that they take."""
    if tensor.data is None:
        raise InvalidRequest(f"input {tensor.name!r:.60} has no data: give it, or {_SIZE}")
    values = _flat(tensor, tensor.data)
    if tensor.datatype == BYTES:
        _check_types(tensor, values, (str,), "texts")
        return packed(values)
    if tensor.datatype not in DTYPES:
        return b""
    dtype = DTYPES[tensor.datatype]
    whole = dtype.kind == "i"
    _check_types(tensor, values, (int,) if whole else (int, float, type(None)), "numbers")
    try:
        with np.errstate(over="raise"):
            return np.array(values, dtype if whole else np.float64).astype(dtype).tobytes()
    except (OverflowError, FloatingPointError):
        raise InvalidRequest(
            f"input {tensor.name!r:.60} has a number that {tensor.datatype} has not"
        ) from None


def _flat(tensor: KserveInput, data: Sequence[Any]) -> Sequence[Any]:
    """Lays lists of lists out row by row. Raises `InvalidRequest` where they are not as the shape says."""
    for size in tensor.shape[1:]:
        kinds = set(map(type, data))
        if list not in kinds:
            break
        if kinds != {list} or set(map(len, data)) != {size}:
            raise InvalidRequest(
                f"input {tensor.name!r:.60}: data is not in rows as its shape {tensor.shape} says"
            )
        data = list(chain.from_iterable(data))
    if len(data) != math.prod(tensor.shape):
        raise InvalidRequest(
            f"input {tensor.name!r:.60} has {counted(len(data), 'value')}; its shape {tensor.shape} says otherwise"
        )
    return data


def _check_types(tensor: KserveInput, values: Sequence[Any], types: tuple[type, ...], told: str) -> None:
    if set(map(type, values)) - set(types):
        place, value = next((i, value) for i, value in enumerate(values) if type(value) not in types)
        raise InvalidRequest(
            f"input {tensor.name!r:.60}: value {place} is {value!r:.40}; {tensor.datatype} takes {told}"
        )


def _reply(response: pb.ModelInferResponse, binary: _Binary, headers: Mapping[str, str]) -> Reply:
    outputs: list[Mapping[str, object]] = []
    tensors: list[bytes] | None = None
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        told = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if binary.wants(output.name):
            tensors = [*(tensors or ()), raw]
            outputs.append({**told, "parameters": {_SIZE: len(raw)}})
        else:
            outputs.append({**told, "data": _values(output, raw)})
    body = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        **({"id": response.id} if response.id else {}),
        "parameters": {name: value.string_param for name, value in response.parameters.items()},
        "outputs": outputs,
    }
    return Reply(body, headers, None if tensors is None else b"".join(tensors))


def _values(output: pb.ModelInferResponse.InferOutputTensor, raw: bytes) -> list[Any]:
    """Lists the values of an output row by row; null where a number is none."""
    if output.datatype == BYTES:
        return [text.decode() for text in unpacked(raw, output.name, output.shape[0])]
    values = np.frombuffer(raw, DTYPES[output.datatype])
    listed: list[Any] = values.tolist()
    if np.isfinite(values).all():
        return listed
    return [value if math.isfinite(value) else None for value in listed]


INFER = Dialect("KServe v2: tensors by name", KserveInfer, _infer, kserve_error, None, with_tensors=True)
