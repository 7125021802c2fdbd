"""`ServerJobs`: offline jobs of a server, over a client's connection."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Protocol, TypeVar

import grpc

from rankport.protos.arguments import checked_timeout_s
from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.protos.jobs import EncodeTask, Job
from rankport.protos.messages import job_wire
from rankport.protos.messages.wire_parts import message_of
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.sdk._remote import rankport_errors
from rankport.sdk.transport.channels import Target
from rankport.sdk.transport.connections import responses_of
from rankport.sdk.transport.tracing import Metadata, trace_metadata

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

_log = logging.getLogger(__name__)
_RESTART_S = 600.0  # that a server may be away under who watches a job: it loads its models first
_LOOK_S = 0.2  # from one look for it to the next


class Answer(Protocol):
    """Way to call a method and get its answer, with the connection, the retries and the errors of a client."""

    def __call__(
        self,
        method: "Callable[[pb_grpc.JobsStub], grpc.UnaryUnaryMultiCallable[RequestT, AnswerT]]",
        request: RequestT,
        timeout_s: float | None,
    ) -> AnswerT: ...


def is_repeatable(request: object) -> bool:
    """Tells a call that does no more the second time.

    Creating a job without an id of the caller's makes another; one that was asked for again may have ended meanwhile.
    """
    if isinstance(request, pb.CreateJobRequest):
        return bool(request.id)
    return not isinstance(request, pb.RetryJobRequest)


class ServerJobs:
    """Creates, watches and cancels the offline jobs of a server.

    >>> job = client.jobs.create(EncodeTask(items="catalogue.csv", store="tokens"))
    >>> for job in client.jobs.watch(job.id):
    ...     print(job.state, job.counts.rows, "of", job.total_rows)

    Files are the server's, below its job roots. Jobs outlive the client, and a restart of the server.
    """

    def __init__(
        self, target: Target, answer: Answer, stub: Callable[[], pb_grpc.JobsStub], *, goes_on: bool
    ) -> None:
        """Begins a broken watch again where it `goes_on`. Raises `InvalidRequest` for several servers."""
        if target.several:
            raise InvalidRequest(f"jobs: the client asks {target.told} in turn: make one for each server")
        self._answer, self._stub, self._address, self._goes_on = answer, stub, target.told, goes_on

    def create(self, task: EncodeTask, id: str = "", timeout_s: float | None = None) -> Job:
        """Has the server run a task when its turn comes.

        Args:
            task: what to encode, and where to.
            id: of the job; the same call with the same id never makes a second one. By default the server gives one.

        Raises:
            InvalidRequest: the server keeps no jobs, a place is outside of its roots, a column or an option is not
                there, or `id` is that of another task.
            NotFound: there is no such file, or encoder.
            Overloaded: too many jobs wait.
        """
        request = message_of(pb.CreateJobRequest, id=id, task=job_wire.task_message(task))
        return job_wire.job_value(self._call(lambda to: to.Create, request, timeout_s))

    def get(self, id: str, timeout_s: float | None = None) -> Job:
        """Returns a job as it is now. Raises `NotFound`."""
        return job_wire.job_value(
            self._call(lambda to: to.Get, message_of(pb.GetJobRequest, id=id), timeout_s)
        )

    def watch(self, id: str, timeout_s: float | None = None) -> Iterator[Job]:
        """Yields a job as it is now, and again whenever it has changed, until it has ended.

        It begins where it is read, in the priority and by the id of the code that made it. A server that stops, or is
        lost, is waited for, as the job goes on after its next start: for ten minutes, and no longer than `timeout_s`
        (not by a client without retries).
        Raises `NotFound`, and `Unavailable` of one that cannot be reached at first, or stays away.
        """
        request = message_of(pb.WatchJobRequest, id=id)
        return self._watched(request, checked_timeout_s(timeout_s), trace_metadata())

    def cancel(self, id: str, timeout_s: float | None = None) -> Job:
        """Ends a job: one that runs behind its batch. What is stored stays. Raises `NotFound`."""
        return job_wire.job_value(
            self._call(lambda to: to.Cancel, message_of(pb.CancelJobRequest, id=id), timeout_s)
        )

    def retry(self, id: str, timeout_s: float | None = None) -> Job:
        """Has a job that failed or was cancelled wait again, behind all others; one that waits or runs stays as it is.

        It runs with the encoder that its name means by then, and goes on behind what is stored.

        Raises:
            NotFound: there is none, or it ended too long ago.
            InvalidRequest: it is done.
            Overloaded: too many jobs wait.
        """
        return job_wire.job_value(
            self._call(lambda to: to.Retry, message_of(pb.RetryJobRequest, id=id), timeout_s)
        )

    def list(self, timeout_s: float | None = None) -> tuple[Job, ...]:
        """Returns all jobs, the newest first; of those that ended the last thousand."""
        answer = self._call(lambda to: to.List, pb.ListJobsRequest(), timeout_s)
        return tuple(map(job_wire.job_value, answer.jobs))

    def _watched(
        self, request: pb.WatchJobRequest, timeout_s: float | None, traced: Metadata | None
    ) -> Iterator[Job]:
        told, away = None, _Away(timeout_s)
        while True:
            try:
                for job in self._states(request, timeout_s, away.left_s(), traced):
                    away.ended()
                    if job != told:
                        yield job
                    told = job
                return
            except Unavailable as error:
                if told is None or not self._goes_on:
                    raise
                away.wait(error)

    def _states(
        self,
        request: pb.WatchJobRequest,
        timeout_s: float | None,
        left_s: float | None,
        traced: Metadata | None,
    ) -> Iterator[Job]:
        stub = self._stub()
        with rankport_errors(self._address, timeout_s):
            call = stub.Watch(request, timeout=left_s, metadata=traced)
            with closing(responses_of(call, self._address)) as messages:
                for message in messages:
                    yield job_wire.job_value(message)

    def _call(
        self,
        method: "Callable[[pb_grpc.JobsStub], grpc.UnaryUnaryMultiCallable[RequestT, AnswerT]]",
        request: RequestT,
        timeout_s: float | None,
    ) -> AnswerT:
        return self._answer(method, request, checked_timeout_s(timeout_s))


class _Away:
    """Time that a server is away under who watches a job."""

    def __init__(self, timeout_s: float | None) -> None:
        self._until_s = None if timeout_s is None else time.monotonic() + timeout_s
        self._since_s: float | None = None

    def left_s(self) -> float | None:
        """Seconds left to watch, 0 or more; None without a limit."""
        return None if self._until_s is None else max(0.0, self._until_s - time.monotonic())

    def ended(self) -> None:
        """Takes that the server has answered."""
        self._since_s = None

    def wait(self, error: Unavailable) -> None:
        """Waits a moment. Raises the error where it was away for too long, or there is no time left, or no client."""
        now_s = time.monotonic()
        if self._since_s is None:
            self._since_s = now_s
            _log.warning("%s; it is waited for", error)
        left_s = self.left_s()
        closed = error.retry_after_s is not None and error.retry_after_s < 0
        if closed or now_s - self._since_s > _RESTART_S or (left_s is not None and left_s <= _LOOK_S):
            raise error
        time.sleep(_LOOK_S)
