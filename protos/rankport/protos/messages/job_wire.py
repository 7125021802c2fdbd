"""Messages of the service `Jobs` <-> the values of `jobs`, for server and client alike. Strict, as `wire`."""

from dataclasses import asdict, replace

from rankport.protos.errors import InvalidRequest
from rankport.protos.jobs import EncodeTask, Job, JobBadRow, JobCounts, JobState
from rankport.protos.messages.wire_parts import (
    TRUNCATION,
    enum_code,
    enum_value,
    message_of,
    side_code,
    side_value,
)
from rankport.protos.v1 import rankport_pb2 as pb

_STATE: dict[JobState, pb.JobState.ValueType] = {
    JobState.QUEUED: pb.JOB_STATE_QUEUED,
    JobState.RUNNING: pb.JOB_STATE_RUNNING,
    JobState.DONE: pb.JOB_STATE_DONE,
    JobState.FAILED: pb.JOB_STATE_FAILED,
    JobState.CANCELLED: pb.JOB_STATE_CANCELLED,
}
_STATE_VALUE: dict[int, JobState] = {code: state for state, code in _STATE.items()}


def task_message(task: EncodeTask) -> pb.EncodeTask:
    """Writes a task. Raises `InvalidRequest`, naming the field, for a value that does not exist."""
    return message_of(
        pb.EncodeTask,
        model=task.model,
        items=task.items,
        store=task.store,
        id_column=task.id_column,
        text_columns=task.text_columns,
        separator=task.separator,
        format=task.file_format,
        truncation=enum_code(TRUNCATION, task.truncation, "truncation"),
        side=side_code(task.side),
        prune=task.prune,
        max_prune_share=task.max_prune_share,
        batch_size=task.batch_size,
        template=task.template,
        deleted_column=task.deleted_column,
        shard=task.shard,
    )


def task_value(message: pb.EncodeTask) -> EncodeTask:
    """Reads a task; raises as `task_message`."""
    task = EncodeTask(
        model=message.model,
        items=message.items,
        store=message.store,
        side=side_value(message.side),
        id_column=message.id_column,
        text_columns=tuple(message.text_columns),
        separator=message.separator if message.HasField("separator") else None,
        file_format=message.format,
        prune=message.prune,
        max_prune_share=message.max_prune_share if message.HasField("max_prune_share") else None,
        batch_size=message.batch_size,
        template=message.template,
        deleted_column=message.deleted_column,
        shard=message.shard,
    )
    if not message.truncation:
        return task
    return replace(task, truncation=enum_value(TRUNCATION, message.truncation, "truncation"))


def job_message(job: Job) -> pb.Job:
    """Writes a job."""
    return pb.Job(
        id=job.id,
        state=_STATE[job.state],
        reason=job.reason,
        task=task_message(job.task),
        fingerprint=job.fingerprint,
        counts=pb.JobCounts(**asdict(job.counts)),
        total_rows=job.total_rows,
        first_bad_rows=[
            pb.JobBadRow(line=row.line, id=row.id, reason=row.reason, file=row.file)
            for row in job.first_bad_rows
        ],
        created_s=job.created_s,
        started_s=job.started_s,
        ended_s=job.ended_s,
        runs=job.runs,
    )


def job_value(message: pb.Job) -> Job:
    """Reads a job; `InvalidRequest` for a state that this release does not know."""
    state = _STATE_VALUE.get(message.state)
    if state is None:
        raise InvalidRequest(f"state {message.state} is unknown; this version knows {sorted(_STATE_VALUE)}")
    counts = message.counts
    return Job(
        id=message.id,
        task=task_value(message.task),
        state=state,
        reason=message.reason,
        fingerprint=message.fingerprint,
        counts=JobCounts(
            rows=counts.rows,
            encoded=counts.encoded,
            unchanged=counts.unchanged,
            bad_rows=counts.bad_rows,
            truncated=counts.truncated,
            pruned=counts.pruned,
            deleted=counts.deleted,
        ),
        total_rows=message.total_rows,
        first_bad_rows=tuple(
            JobBadRow(row.line, row.reason, row.id if row.HasField("id") else None, row.file)
            for row in message.first_bad_rows
        ),
        created_s=message.created_s,
        started_s=message.started_s,
        ended_s=message.ended_s,
        runs=message.runs,
    )
