"""Parameters of a request and of its tensors: those that mean something here are read, any other is refused by name."""

from collections.abc import Mapping

from rankport.protos.errors import InvalidRequest
from rankport.protos.kserve import kserve_pb2 as pb
from rankport.runtime.server.kserve.tasks import Task

Given = Mapping[str, pb.InferParameter]

# perf_analyzer sends it with every call, for streams: a call of ModelInfer has one answer, with or without.
_OF_STREAMS = "triton_enable_empty_final_response"
# KServe's client sends them as it does over HTTP, where raw contents lie behind each other.
_RAW_SIZE, _RAW = "binary_data_size", "binary_data"


def options_of(task: Task, given: Given) -> dict[str, str]:
    """Reads the parameters of a request, and the task's defaults of the others."""
    options = {name: values[0] for name, values in task.options.items()}
    for name, parameter in given.items():
        if name == _OF_STREAMS:
            continue
        if name not in task.options:
            known = ", ".join(task.options)
            raise InvalidRequest(f"parameter {name!r:.60} is unknown; there are {known}")
        value = _value(parameter)
        if not isinstance(value, str) or not value or value not in task.options[name]:
            choices = ", ".join(filter(None, task.options[name]))
            raise InvalidRequest(f"parameter {name!r} is {value!r:.60}; give one of {choices}")
        options[name] = value
    return options


def check_tensors(request: pb.ModelInferRequest) -> None:
    """Refuses parameters of inputs and outputs by name: shared memory, Triton's classes, and whatever else."""
    raw = list(request.raw_input_contents)
    sizes = (
        [len(content) for content in raw] if len(raw) == len(request.inputs) else [0] * len(request.inputs)
    )
    for tensor, size in zip(request.inputs, sizes, strict=True):
        for name, parameter in tensor.parameters.items():
            if name != _RAW_SIZE:
                raise InvalidRequest(_unknown("input", tensor.name, name, "contents travel in the message"))
            if _value(parameter) != size:
                raise InvalidRequest(
                    f"input {tensor.name!r:.60}: parameter {name!r} is {_value(parameter)!r:.60}, and its raw "
                    f"content has {size} bytes"
                )
    for output in request.outputs:
        for name, parameter in output.parameters.items():
            if name != _RAW or _value(parameter) is not True:
                raise InvalidRequest(_unknown("output", output.name, name, "answers are raw, in the message"))


def _unknown(side: str, tensor: str, name: str, way: str) -> str:
    return f"{side} {tensor!r:.60}: parameter {name!r:.60} is not taken; {way}"


def _value(parameter: pb.InferParameter) -> bool | int | float | str | None:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)
