"""Life of one inference: from the message of a client to the message that answers it, whatever front they come by."""

import time
from typing import Any

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.protos.kserve import kserve_pb2 as pb
from rankport.protos.messages.request_size import RequestSize
from rankport.protos.types import ModelDescription
from rankport.protos.wording import repeated
from rankport.runtime.server.core import Core
from rankport.runtime.server.kserve.parameters import check_tensors, options_of
from rankport.runtime.server.kserve.tasks import TASKS, Task, task_of
from rankport.runtime.server.kserve.tensors import Tensors, add_output
from rankport.runtime.server.models.models import Served
from rankport.runtime.server.observing.call import current_call
from rankport.runtime.server.statistics import ModelTotals


def find(core: Core, name: str, version: str, request_id: str = "") -> Served[Any]:
    """Finds the model of that name, "" the only one, and version, "" any. Raises `NotFound` if there is none."""
    served = core.models.version(name, version) or core.models.any(name, request_id)
    if version not in ("", served.description.version):
        raise NotFound(
            f"model {served.description.name!r} has version {served.description.version!r}, not {version!r:.60}"
        )
    return served


def is_ready(core: Core, served: Served[Any]) -> bool:
    """Says whether a version can take requests now."""
    return served.model.alive and core.ready(f"{served.description.name}@{served.description.version}")


def totals_of(core: Core, model: ModelDescription) -> ModelTotals:
    """Gives the statistics of a version."""
    return core.statistics.of(f"{model.name}@{model.version}")


async def infer(
    core: Core, served: Served[Any], request: pb.ModelInferRequest, timeout_s: float | None
) -> pb.ModelInferResponse:
    """Has a model that is in use do what is asked of it, within the limits of a request.

    Raises:
        InvalidRequest: a tensor or parameter that the model does not take, or that is not what its shape says.
        LimitExceeded: too many items or tokens.
        RankportError: as `Submitter.run`.
    """
    check_tensors(request)
    tensors = Tensors.of(request)
    asked = [output.name for output in request.outputs]
    if twice := repeated(asked):  # each is a copy of the answer: a few bytes could ask for gigabytes
        raise InvalidRequest(f"output {twice[0]!r:.60} is asked for twice: ask for it once")
    task = task_of(served, set(tensors.by_name), set(asked))
    if (call := current_call()) is not None:
        call.does = next(does for does, each in TASKS.items() if each is task)
    options = options_of(task, request.parameters)
    size = _size(task, tensors)
    core.limits.check(size)
    core.admission.charge(size.items)
    result = await core.submitter.run(
        lambda left_s: task.submit(core.scoring, served, tensors, options, left_s), timeout_s
    )
    begun_s = time.perf_counter()
    response = _response(served, request, task, result, asked)
    totals = totals_of(core, served.description)
    totals.write.add(time.perf_counter() - begun_s)
    usage = task.usage(result)
    if usage is not None:
        totals.add_usage(usage)
    return response


def _size(task: Task, tensors: Tensors) -> RequestSize:
    items = max(tensors.claimed(name, axes=1) for name in task.rows)
    return RequestSize(items, tensors.claimed("item_embeddings", axes=2))


def _response(
    served: Served[Any], request: pb.ModelInferRequest, task: Task, result: Any, asked: list[str]
) -> pb.ModelInferResponse:
    model = served.description
    response = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
    for name in ("fingerprint", "score_kind", "read_out"):
        if getattr(model, name):
            response.parameters[name].string_param = getattr(model, name)
    outputs = task.answer(result)
    for name in asked or outputs:
        add_output(response, name, outputs[name])
    return response
