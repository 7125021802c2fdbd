"""Service `Jobs`."""

import asyncio

from rankport.protos.errors import InvalidRequest, Unavailable
from rankport.protos.messages import job_wire
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.protos.v1 import rankport_pb2_grpc as pb_grpc
from rankport.runtime.server.core import Core
from rankport.runtime.server.grpc.calls import Context, open_call
from rankport.runtime.server.grpc.guarded import caller_of
from rankport.runtime.server.grpc.streams import OpenStreams
from rankport.runtime.server.jobs.runner import JobRunner

_LOOK_S = 0.1  # from one look at what changed to the next


class JobsService(pb_grpc.JobsServicer):
    """Creates, shows and cancels the jobs of a server.

    What reads the file of jobs does so in a thread: it waits for what is written to the disk.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._open_streams = OpenStreams(core.config.max_connection_streams)

    async def Create(self, request: pb.CreateJobRequest, context: Context) -> pb.Job:  # noqa: N802
        async with open_call(context, self._core):
            self._core.admission.check_running()
            task = job_wire.task_value(request.task)
            return job_wire.job_message(await self._jobs().create(request.id, task))

    async def Get(self, request: pb.GetJobRequest, context: Context) -> pb.Job:  # noqa: N802
        async with open_call(context, self._core):
            return job_wire.job_message(await asyncio.to_thread(self._jobs().get, request.id))

    async def List(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:  # noqa: N802
        async with open_call(context, self._core):
            jobs = await asyncio.to_thread(self._jobs().all)
            return pb.ListJobsResponse(jobs=map(job_wire.job_message, jobs))

    async def Cancel(self, request: pb.CancelJobRequest, context: Context) -> pb.Job:  # noqa: N802
        async with open_call(context, self._core):
            return job_wire.job_message(await asyncio.to_thread(self._jobs().cancel, request.id))

    async def Retry(self, request: pb.RetryJobRequest, context: Context) -> pb.Job:  # noqa: N802
        async with open_call(context, self._core):
            self._core.admission.check_running()
            return job_wire.job_message(await asyncio.to_thread(self._jobs().retry, request.id))

    # A coroutine that writes sees the call's cancellation; a generator, suspended at its yield, would not.
    async def Watch(self, request: pb.WatchJobRequest, context: Context) -> None:  # type: ignore[override]  # noqa: N802
        call = open_call(context, self._core)
        async with call:
            jobs = self._jobs()
            with self._open_streams.one_of(context.peer()):
                told, seen = None, -1
                while told is None or not told.state.ended:
                    if self._core.admission.leaving:
                        raise Unavailable(
                            "the server stops: the job goes on when it starts again, watch it then"
                        )
                    if seen != jobs.revision:
                        seen = jobs.revision
                        # A job may outlast the token of who watches it.
                        caller_of(context.invocation_metadata(), self._core, "admin")
                        job = await asyncio.to_thread(jobs.get, request.id)
                        if job != told:
                            await call.write(job_wire.job_message(job))
                            told = job
                            continue
                    await asyncio.sleep(_LOOK_S)

    def _jobs(self) -> JobRunner:
        if self._core.jobs is None:
            raise InvalidRequest(
                "this server keeps no jobs: start it with --jobs-file FILE and --job-root DIRECTORY"
            )
        return self._core.jobs
