"""`TensorRtGraph` over a stand-in for TensorRT and CUDA: which profile, which addresses, what is recorded and freed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import BackendError
from rankport.runtime.backends.contract import DeviceLost
from rankport.runtime.backends.devices.cuda.calls import CudaStream
from rankport.runtime.backends.devices.graph import DeviceArray, DeviceGraph
from rankport.runtime.backends.tensorrt.graph import TensorRtGraph
from rankport.runtime.backends.tensorrt.module import TensorRt
from rankport.runtime.backends.tensorrt.profiles import Profile, SizeRange
from rankport.runtime.bundle.manifest import TensorSpec
from support.gpu.fake_tensorrt import FakeApi, FakeCuda

runtime = pytest.importorskip(
    "cuda.bindings.runtime", reason="cuda-bindings is not installed", exc_type=ImportError
)

INPUTS = (
    TensorSpec(name="input_ids", dtype="int64", shape=["tokens"]),
    TensorSpec(name="past_key.0", dtype="float16", shape=["prefixes", 2, "past", 4]),
    TensorSpec(name="kv_slots", dtype="int64", shape=[1]),
    TensorSpec(name="unread", dtype="int64", shape=["tokens"]),
)
PLAN = memoryview(b"plan")


def _profile(name: str, tokens: int, prefixes: int) -> Profile:
    axes = {
        "tokens": SizeRange(min=1, opt=1, max=tokens),
        "prefixes": SizeRange(min=1, opt=1, max=prefixes),
        "past": SizeRange(min=0, opt=1, max=16),
    }
    return Profile(name=name, axes=axes, values={"kv_slots": SizeRange(min=0, opt=1, max=tokens)})


PROFILES = (_profile("latency", 8, 1), _profile("throughput", 64, 4))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    fake.install(lambda name, function: monkeypatch.setattr(runtime, name, function))
    return fake


@pytest.fixture
def api(cuda: FakeCuda) -> FakeApi:
    return FakeApi(
        cuda,
        {"input_ids": "INT64", "past_key.0": "HALF", "kv_slots": "INT64"},
        {
            "logits": (lambda shapes: (*shapes["input_ids"], 2), "FLOAT"),
            "new_key.0": (lambda shapes: (shapes["past_key.0"][0], 2, 3, 4), "HALF"),
        },
        host=("kv_slots",),
        profiles=2,
    )


@pytest.fixture
def graph(api: FakeApi) -> Iterator[TensorRtGraph]:
    made = TensorRtGraph(TensorRt("tensorrt", "11.4", api), PLAN, INPUTS, PROFILES, CudaStream())
    yield made
    made.close()


def inputs(tokens: int, prefixes: int = 1, past: int = 2) -> dict[str, DeviceArray]:
    return {
        "input_ids": DeviceArray(0x100000, (tokens,), "int64"),
        "past_key.0": DeviceArray(0x200000 if past else 0, (prefixes, 2, past, 4), "float16"),
    }


def host(slots: int = 0) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    return {"kv_slots": np.array([slots])}


def logits(tokens: int) -> dict[str, DeviceArray]:
    return {"logits": DeviceArray(0x300000, (tokens, 2), "float32")}


def test_it_tells_what_it_reads_and_what_it_wants_in_host_memory(graph: DeviceGraph) -> None:
    assert graph.input_names == {"input_ids", "past_key.0", "kv_slots"}
    assert graph.host_names == {"kv_slots"}


def test_a_pass_runs_in_the_profile_that_takes_it(graph: TensorRtGraph, cuda: FakeCuda, api: FakeApi) -> None:
    graph.run(inputs(8), host(), logits(8))
    graph.run(inputs(9), host(), logits(9))
    graph.run(inputs(4, prefixes=2), host(), logits(4))
    graph.run(inputs(4), host(slots=9), logits(4))
    assert [detail[0] for _, detail in cuda.log] == [0, 1, 1, 1]
    shared = {context.memory for context in api.contexts}
    assert len(shared) == 1
    assert shared.pop()[1] == 4096


def test_a_pass_that_no_profile_takes_is_refused(graph: TensorRtGraph) -> None:
    with pytest.raises(
        BackendError, match="latency: tokens 65 not in 1 to 8; throughput: tokens 65 not in 1 to 64"
    ):
        graph.run(inputs(65), host(), logits(65))


def test_outputs_go_where_they_are_asked_for_and_others_to_a_place_of_their_own(
    graph: TensorRtGraph, cuda: FakeCuda
) -> None:
    for tokens, prefixes in ((4, 1), (4, 4), (4, 1)):
        graph.run(inputs(tokens, prefixes), host(), logits(tokens))
    places = [detail[2]["new_key.0"] for _, detail in cuda.log]
    assert {detail[2]["logits"] for _, detail in cuda.log} == {0x300000}
    assert all(
        cuda.allocated[place] >= 2 * 2 * 3 * 4 * prefixes
        for place, prefixes in zip(places, (1, 4, 1), strict=True)
    )
    # Outgrown once, then kept.
    assert places[2] == places[1]


def test_a_tensor_without_an_element_has_an_address_all_the_same(
    graph: TensorRtGraph, cuda: FakeCuda
) -> None:
    graph.run(inputs(4, past=0), host(), logits(4))
    (_, (_, shapes, addresses)) = cuda.log[0]
    assert shapes["past_key.0"] == (1, 2, 0, 4)
    assert addresses["past_key.0"] in cuda.allocated


def test_a_tensor_that_lies_badly_is_copied_around_the_pass(graph: TensorRtGraph, cuda: FakeCuda) -> None:
    given = inputs(4) | {"past_key.0": DeviceArray(0x200010, (1, 2, 2, 4), "float16")}
    asked = {"logits": DeviceArray(0x300020, (4, 2), "float32")}
    for _ in range(2):
        graph.run(given, host(), asked, fixed=1)
    copies = [detail for what, detail in cuda.log if what == "copy"]
    assert [what for what, _ in cuda.log] == ["copy", "pass", "copy", "launch", "copy", "pass", "copy"]
    assert copies[:2] == copies[2:]
    (_, (_, _, addresses)) = cuda.log[1]
    assert copies[0] == (0x200010, addresses["past_key.0"], 32)
    assert copies[1] == (addresses["logits"], 0x300020, 32)


def test_a_fixed_pass_is_enqueued_once_then_replayed(graph: TensorRtGraph, cuda: FakeCuda) -> None:
    for _ in range(3):
        graph.run(inputs(4), host(), logits(4), fixed=5)
    assert [what for what, _ in cuda.log] == ["pass", "launch", "pass", "launch", "pass"]
    graph.run(inputs(4), host(), logits(4), fixed=6)
    graph.run(inputs(4), host(), logits(4))
    assert [what for what, _ in cuda.log][5:] == ["pass", "pass"]
    assert cuda.open_recordings == 2


@pytest.mark.parametrize("failing", ["record", "cudaGraphInstantiate", "cudaStreamBeginCapture"])
def test_a_pass_that_cannot_be_recorded_is_enqueued_each_time(
    failing: str, graph: TensorRtGraph, cuda: FakeCuda, api: FakeApi
) -> None:
    api.fails.add(failing)
    cuda.fails.add(failing)
    for _ in range(3):
        graph.run(inputs(4), host(), logits(4), fixed=5)
    assert [what for what, _ in cuda.log] == ["pass"] * 3


@pytest.mark.parametrize(
    ("failing", "words"), [("execute", "a pass"), ("shape", r"shape \[4\] of input_ids")]
)
def test_what_tensorrt_refuses_is_an_error_that_says_what(
    failing: str, words: str, graph: TensorRtGraph, api: FakeApi
) -> None:
    api.fails.add(failing)
    with pytest.raises(BackendError, match=f"TensorRT failed at {words}: it gave no reason"):
        graph.run(inputs(4), host(), logits(4))


def test_a_lost_device_is_no_error_of_the_pass(graph: TensorRtGraph, cuda: FakeCuda) -> None:
    graph.run(inputs(4), host(), logits(4), fixed=1)
    cuda.fails |= {"cudaGraphLaunch", "cudaStreamQuery"}
    with pytest.raises(DeviceLost, match="cudaGraphLaunch failed"):
        graph.run(inputs(4), host(), logits(4), fixed=1)


def test_close_frees_everything_and_may_be_called_again(api: FakeApi, cuda: FakeCuda) -> None:
    graph = TensorRtGraph(TensorRt("tensorrt", "11.4", api), PLAN, INPUTS, PROFILES, CudaStream())
    graph.run(inputs(4), host(), logits(4), fixed=1)
    graph.close()
    graph.close()
    assert cuda.allocated == {}
    assert cuda.open_recordings == 0


def test_a_plan_without_weights_is_given_those_of_its_graph(api: FakeApi, cuda: FakeCuda) -> None:
    module = TensorRt("tensorrt", "11.4", api)
    TensorRtGraph(module, PLAN, INPUTS, PROFILES, CudaStream(), weights=Path("score.onnx")).close()
    assert api.refitted == ["score.onnx"]
    api.fails.add("refit")
    with pytest.raises(BackendError, match=r"weights of score\.onnx do not go into the plan"):
        TensorRtGraph(module, PLAN, INPUTS, PROFILES, CudaStream(), weights=Path("score.onnx"))


def test_a_plan_that_is_not_what_its_record_says_is_refused(api: FakeApi, cuda: FakeCuda) -> None:
    module = TensorRt("tensorrt", "11.4", api)
    with pytest.raises(BackendError, match="the plan cannot be loaded here"):
        TensorRtGraph(module, memoryview(b""), INPUTS, PROFILES, CudaStream())
    with pytest.raises(BackendError, match="the plan has 2 profiles, its record 1"):
        TensorRtGraph(module, PLAN, INPUTS, PROFILES[:1], CudaStream())
    other = (INPUTS[0].model_copy(update={"dtype": "int32"}), *INPUTS[1:])
    with pytest.raises(BackendError, match=r"the plan takes input_ids as .*INT64.*, its graph as int32"):
        TensorRtGraph(module, PLAN, other, PROFILES, CudaStream())
