"""Threads of ONNX Runtime's sessions: those of passes beside each other are as many together as asked for."""

import os
from contextlib import closing

import numpy as np
import onnxruntime
import pytest

from rankport.protos.errors import BackendError
from rankport.runtime.backends.choice import load_prefix_backend
from rankport.runtime.backends.ort import session
from rankport.runtime.backends.ort.session import Session
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig


@pytest.mark.parametrize(
    ("threads", "instances", "quota", "of_a_pass"),
    [
        *(
            (3, 1, None, 3),
            (0, 1, None, 0),
            (8, 2, None, 7),
            (2, 2, None, 1),
            (8, 8, None, 1),
            (0, 64, None, 1),
        ),
        *((0, 1, 6, 6), (0, 1, 8, 0), (0, 1, 9, 0), (0, 2, 6, 5), (3, 1, 2, 3)),
    ],
)
def test_callers_and_workers_make_the_threads(
    threads: int,
    instances: int,
    quota: int | None,
    of_a_pass: int,
    mix_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = set()

    class Watched(onnxruntime.InferenceSession):
        def __init__(self, path: object, options: onnxruntime.SessionOptions, **more: object) -> None:
            given.add(options.intra_op_num_threads)
            super().__init__(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Watched)
    monkeypatch.setattr(session, "count_cores", lambda: 8)
    monkeypatch.setattr(session, "quota_cores", lambda: quota)
    config = EngineConfig(threads=threads, instances=instances)
    with closing(load_prefix_backend(mix_bundle, config)):
        assert given == {of_a_pass}


@pytest.mark.parametrize(("threads", "spin"), [(0, True), (1, True), (2, False), (1024, False)])
def test_threads_spin_only_where_each_has_a_core(
    threads: int, spin: bool, mix_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    spinning = set()

    class Watched(onnxruntime.InferenceSession):
        def __init__(self, path: object, options: onnxruntime.SessionOptions, **more: object) -> None:
            key = "session.intra_op.allow_spinning"
            try:
                spinning.add(options.get_session_config_entry(key) != "0")
            except RuntimeError:  # it is not set: they do
                spinning.add(True)
            super().__init__(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Watched)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with closing(load_prefix_backend(mix_bundle, EngineConfig(threads=threads))):
        assert spinning == {spin}


def test_what_fails_is_raised_and_no_line_of_its_own_is_among_those_of_a_log(
    encoder_bundle: Bundle, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = {
        value.name: np.full((1,) * len(value.shape), 2**30, value.dtype)
        for value in encoder_bundle.graph("encode").inputs
    }
    encoder = Session(encoder_bundle, "encode", EngineConfig(threads=1))
    with closing(encoder), pytest.raises(BackendError, match="Non-zero status code returned while running"):
        encoder.run(inputs)
    assert capfd.readouterr().err == ""
