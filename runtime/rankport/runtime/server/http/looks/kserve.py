"""Looks of KServe's protocol v2, as the gRPC service tells them: health, what models take and give, statistics."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.types import Scope

from rankport.protos.installed.packages import VERSION
from rankport.protos.kserve import kserve_pb2 as pb
from rankport.runtime.server.core import Core
from rankport.runtime.server.http.answers import Answer
from rankport.runtime.server.kserve.inference import find, is_ready, totals_of
from rankport.runtime.server.kserve.metadata import EXTENSIONS, config_of, metadata_of, statistics_of
from rankport.runtime.server.kserve.tasks import tasks_of
from rankport.runtime.server.models.models import Served

PROBES = ("/v2/health/live", "/v2/health/ready")
"""Looks without a token, as those of health."""
_EXTENSIONS = (*EXTENSIONS, "binary_tensor_data")
_NOT_READY = 503
_PHASES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


def kserve_looks(core: Core) -> Mapping[str, Callable[[Scope], Answer]]:
    """Makes what shows each path, the more particular ones first."""

    def found(scope: Scope) -> Served[Any]:
        named = scope["path_params"]
        return find(core, named["model"], named.get("version", ""))

    def ready(scope: Scope) -> Answer:
        served = found(scope)
        return _state("ready", is_ready(core, served), name=scope["path_params"]["model"])

    def statistics(models: Iterable[Any]) -> Answer:
        told = [_statistics(statistics_of(model, totals_of(core, model))) for model in models]
        return Answer.of_json({"model_stats": told})

    of_model: dict[str, Callable[[Scope], Answer]] = {
        "/ready": ready,
        "/config": lambda scope: Answer.of_json(_config(found(scope))),
        "/stats": lambda scope: statistics([found(scope).description]),
        "": lambda scope: Answer.of_json(_metadata(found(scope))),
    }
    return {
        "/v2": lambda _: Answer.of_json({"name": "rankport", "version": VERSION, "extensions": _EXTENSIONS}),
        "/v2/health/live": lambda _: _state("live", core.live()),
        "/v2/health/ready": lambda _: _state("ready", core.ready()),
        "/v2/models": lambda _: Answer.of_json({"models": sorted(core.models.alive())}),
        "/v2/models/stats": lambda _: statistics(core.models.descriptions()),
        **{f"/v2/models/{{model}}/versions/{{version}}{end}": show for end, show in of_model.items()},
        **{f"/v2/models/{{model}}{end}": show for end, show in of_model.items()},
    }


def _state(word: str, holds: bool, **named: str) -> Answer:
    return Answer.of_json({**named, word: holds}, 200 if holds else _NOT_READY)


def _metadata(served: Served[Any]) -> Mapping[str, object]:
    told = metadata_of(served.description, tasks_of(served))

    def listed(tensors: Iterable[Any]) -> list[Mapping[str, object]]:
        return [{"name": each.name, "datatype": each.datatype, "shape": [*each.shape]} for each in tensors]

    return {
        "name": told.name,
        "versions": [*told.versions],
        "platform": told.platform,
        "inputs": listed(told.inputs),
        "outputs": listed(told.outputs),
    }


def _config(served: Served[Any]) -> Mapping[str, object]:
    told = config_of(served.description, tasks_of(served))

    def listed(tensor: Any) -> Mapping[str, object]:
        return {
            "name": tensor.name,
            "data_type": pb.DataType.Name(tensor.data_type),
            "dims": [*tensor.dims],
        }

    return {
        "name": told.name,
        "platform": told.platform,
        "backend": told.backend,
        "max_batch_size": told.max_batch_size,
        "input": [{**listed(each), "optional": each.optional} for each in told.input],
        "output": [listed(each) for each in told.output],
    }


def _statistics(told: pb.ModelStatistics) -> Mapping[str, object]:
    phases = {name: getattr(told.inference_stats, name) for name in _PHASES}
    return {
        "name": told.name,
        "version": told.version,
        "last_inference": told.last_inference,
        "inference_count": told.inference_count,
        "execution_count": told.execution_count,
        "inference_stats": {name: {"count": phase.count, "ns": phase.ns} for name, phase in phases.items()},
    }
