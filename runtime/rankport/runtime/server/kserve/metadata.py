"""Metadata, configuration and statistics of models as the protocol has them."""

from collections.abc import Iterable, Sequence

from rankport.protos.kserve import kserve_pb2 as pb
from rankport.protos.types import ModelDescription
from rankport.runtime.server.kserve.tasks import Spec, Task
from rankport.runtime.server.statistics import ModelTotals, Total

TensorMetadata = pb.ModelMetadataResponse.TensorMetadata
EXTENSIONS = ("statistics", "model_configuration")
_PLATFORM = "rankport"
_TYPES = {
    "BYTES": pb.TYPE_STRING,
    "FP16": pb.TYPE_FP16,
    "FP32": pb.TYPE_FP32,
    "INT64": pb.TYPE_INT64,
}


def metadata_of(model: ModelDescription, tasks: Sequence[Task]) -> pb.ModelMetadataResponse:
    """Describes the tensors of all that a model does."""
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=[model.version],
        platform=_PLATFORM,
        inputs=[
            TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
            for spec in _inputs(model, tasks)
        ],
        outputs=[
            TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
            for spec in _outputs(model, tasks)
        ],
    )


def config_of(model: ModelDescription, tasks: Sequence[Task]) -> pb.ModelConfig:
    """Describes the same as a configuration of Triton's. A request is never batched by its first axis."""
    several = len(tasks) > 1
    return pb.ModelConfig(
        name=model.name,
        platform=_PLATFORM,
        backend=_PLATFORM,
        max_batch_size=0,
        input=[
            pb.ModelInput(
                name=spec.name,
                data_type=_TYPES[spec.datatype],
                dims=spec.shape,
                optional=spec.optional or several,
            )
            for spec in _inputs(model, tasks)
        ],
        output=[
            pb.ModelOutput(name=spec.name, data_type=_TYPES[spec.datatype], dims=spec.shape)
            for spec in _outputs(model, tasks)
        ],
    )


def statistics_of(model: ModelDescription, totals: ModelTotals) -> pb.ModelStatistics:
    """Writes the statistics of a model. A request counts as one inference, however many items it has."""
    return pb.ModelStatistics(
        name=model.name,
        version=model.version,
        last_inference=totals.last_ms,
        inference_count=totals.success.count,
        execution_count=totals.success.count,
        inference_stats=pb.InferStatistics(
            success=_duration(totals.success),
            fail=_duration(totals.fail),
            queue=_duration(totals.queue),
            compute_input=_duration(totals.read),
            compute_infer=_duration(totals.compute),
            compute_output=_duration(totals.write),
        ),
    )


def _duration(total: Total) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=total.count, ns=total.ns)


def _inputs(model: ModelDescription, tasks: Sequence[Task]) -> list[Spec]:
    return _by_name(spec for task in tasks for spec in task.inputs(model))


def _outputs(model: ModelDescription, tasks: Sequence[Task]) -> list[Spec]:
    return _by_name(spec for task in tasks for spec in task.outputs(model))


def _by_name(specs: Iterable[Spec]) -> list[Spec]:
    return list({spec.name: spec for spec in specs}.values())
