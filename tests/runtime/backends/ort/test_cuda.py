"""Recordings of a session on CUDA: which passes ask for one, and what becomes of those that fail.

ONNX Runtime's session is played: what is tested is what we ask of it. With a GPU the conformance tests run a real one.
"""

import threading
from collections.abc import Callable
from typing import Any

import onnxruntime
import pytest
from onnxruntime import RunOptions

from rankport.protos.errors import BackendError, BundleError
from rankport.runtime.backends.ort import cuda, session
from rankport.runtime.backends.ort.bound_graph import BoundGraph
from rankport.runtime.backends.ort.cuda import find_libraries
from rankport.runtime.backends.trial.sample import open_sample
from rankport.runtime.config import engine_config
from support.gpu.host_device import HostMemory


class PlayedSession:
    """Notes which graph each run asks for, and fails those it is told to."""

    def __init__(self, *failing: str) -> None:
        self.failing, self.asked = failing, list[str]()
        self.on_run: Callable[[], None] = lambda: None

    def get_inputs(self) -> list[Any]:
        return []

    def io_binding(self) -> object:
        return object()

    def run_with_iobinding(self, _: object, options: RunOptions) -> None:
        self.asked.append(options.get_run_config_entry("gpu_graph_id"))
        self.on_run()
        if self.asked[-1] in self.failing:
            raise RuntimeError("CUDA failure 901: operation failed due to a previous error during capture")


def in_a_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def run(session: PlayedSession, *numbers: int | None) -> None:
    graph = BoundGraph(session, "cuda", records=True)
    for number in numbers:
        graph.run({}, {}, {}, fixed=number)


def test_a_pass_asks_for_the_recording_of_its_number_or_for_none() -> None:
    session = PlayedSession()
    run(session, 7, None, 7)
    assert session.asked == ["7", "-1", "7"]


def test_a_pass_whose_recording_fails_is_answered_and_never_recorded_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = PlayedSession("7", "8")
    run(session, 7, 7, 9, 8)
    assert session.asked == ["7", "-1", "-1", "9", "8", "-1"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "CUDA failure 901" in caplog.text


def test_a_pass_is_not_recorded_while_another_thread_records() -> None:
    mine, other = PlayedSession(), PlayedSession()
    graph = BoundGraph(other, "cuda", records=True)

    def meanwhile() -> None:
        graph.run({}, {}, {}, fixed=1)

    mine.on_run = lambda: in_a_thread(meanwhile)
    run(mine, 1)
    assert other.asked == ["-1"]
    meanwhile()
    assert other.asked == ["-1", "1"]


def test_what_fails_without_a_recording_too_fails() -> None:
    with pytest.raises(BackendError, match="CUDA failure 901"):
        run(PlayedSession("7", "-1"), 7)


@pytest.mark.parametrize(("threads", "given"), [(3, 3), (0, 2)])
def test_a_session_has_the_threads_that_were_asked_for(
    threads: int, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def open_session(path: object, options: onnxruntime.SessionOptions, **_: object) -> None:
        asked.append(options.intra_op_num_threads)
        raise RuntimeError("no device")

    class Memory(HostMemory):
        device = 0

    monkeypatch.setattr(cuda, "require_provider", lambda: None)
    monkeypatch.setattr(cuda, "CudaMemory", lambda device: Memory())
    monkeypatch.setattr(session, "quota_cores", lambda: 2)
    monkeypatch.setattr(session, "count_cores", lambda: 64)
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    sample = open_sample().for_target("onnx-cuda")
    with pytest.raises(BundleError, match="no device"):
        cuda.cuda_text_backend(sample, "score", engine_config("cuda", threads=threads))
    assert asked == [given]


def test_what_onnx_runtime_prints_of_libraries_is_told_and_stands_among_no_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def preload() -> None:
        print("Failed to load libcurand.so.10: no such file")
        print("Please follow https://onnxruntime.ai/docs/install/#cuda-and-cudnn to install CUDA.")

    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    find_libraries.cache_clear()
    assert find_libraries() == "Failed to load libcurand.so.10: no such file"
    find_libraries.cache_clear()
    assert capsys.readouterr().out == ""
