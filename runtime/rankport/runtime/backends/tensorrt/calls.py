"""Long calls of TensorRT, which Ctrl-C ends.

They call back into Python to log, and there what a signal's handler raises is lost. So they are made in a thread of
their own, which sees no signals, while the caller's waits.
"""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Event, Thread
from typing import Any, TypeVar

from rankport.runtime.backends.tensorrt.module import TensorRt

ResultT = TypeVar("ResultT")


def call_interruptibly(call: Callable[[Event], ResultT]) -> ResultT:
    """Returns or raises what `call` does. A signal sets its event, to end it early, and is raised when it has ended."""
    stopped, answer = Event(), Future[ResultT]()
    thread = Thread(target=_answer, args=(answer, call, stopped), name="tensorrt")
    try:
        thread.start()
        return answer.result()
    except BaseException:
        stopped.set()
        if thread.is_alive():  # it is not where the signal came before it
            thread.join()
        raise


def _answer(answer: "Future[ResultT]", call: Callable[[Event], ResultT], stopped: Event) -> None:
    try:
        answer.set_result(call(stopped))
    except BaseException as error:
        answer.set_exception(error)


def make_monitor(module: TensorRt, stopped: Event) -> Any:
    """Makes a progress monitor of the module's own class that ends a build once `stopped` is set."""

    class Monitor(module.api.IProgressMonitor):  # type: ignore[misc, name-defined]
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            pass

        def step_complete(self, phase_name: str, step: int) -> bool:
            return not stopped.is_set()

        def phase_finish(self, phase_name: str) -> None:
            pass

    return Monitor()
