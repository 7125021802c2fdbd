"""List rankers on a device of host memory: the scores of the CPU backend in every mode; CUDA where it is."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from rankport.exporters.export import export
from rankport.exporters.kinds.list_ranker.proof.samples import ListSample, draw_samples
from rankport.exporters.verify import verify
from rankport.protos.errors import BackendError, InvalidRequest
from rankport.runtime.backends import choice
from rankport.runtime.backends.devices.marked import DeviceMarkedBackend
from rankport.runtime.backends.ort.marked import OnnxRuntimeMarkedBackend
from rankport.runtime.backends.warm_up import warm_up_lists
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.list_ranker.list_ranker import ListRanker
from rankport.runtime.prompt.tokenizer import Tokenizer
from rankport.runtime.tokens import EMBEDDED, TokenRun, TokenRuns
from support.effort import every_run
from support.gpu.cuda_kernels import without_kernel
from support.gpu.gpus import has_cuda
from support.gpu.host_device import HostMemory, host_lists
from support.lists.alone import decoder_checkpoint
from support.lists.drafts import raw_tokenizer
from support.lists.rankers import checkpoint, jina_checkpoint

pytestmark = pytest.mark.usefixtures("traces")

WINDOW = 64
SLIDING = {
    "num_hidden_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": WINDOW,
    "use_sliding_window": True,
}
TOKENS = {"item_encoder": "e" * 64, "embedding_tokens": 2}
FORMS: dict[str, tuple[Callable[..., Path], dict[str, object], dict[str, object]]] = {
    "windows, blocks joined": (jina_checkpoint, SLIDING, {"max_list_items": 12}),
    "logits of embedding tokens": (
        checkpoint,
        {
            "projector": [{"in_features": 24, "out_features": 1, "bias": True, "activation": "identity"}],
            "query_marker": None,
            "template": {"item": [{"item": True}, {"mark": "item"}], "head": [{"field": "query"}]},
            "read_out": "logit",
        },
        TOKENS,
    ),
    "items read alone, at their ends": (decoder_checkpoint, SLIDING, {}),
}


@pytest.fixture(scope="module", params=every_run(FORMS, FORMS.keys() - {"logits of embedding tokens"}))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """fp32 for both targets."""
    folder = tmp_path_factory.mktemp("lists")
    make, form, options = FORMS[request.param]
    source = make(folder / "c", **form)
    return export(source, folder / "b", kind="list-ranker", target="onnx-cpu,onnx-cuda", **options)


@pytest.fixture
def memory() -> HostMemory:
    return HostMemory()


@pytest.fixture
def device(bundle: Bundle, memory: HostMemory) -> Iterator[DeviceMarkedBackend]:
    backend = host_lists(bundle.for_target("onnx-cuda"), memory)
    yield backend
    backend.close()


def samples_of(bundle: Bundle) -> list[ListSample]:
    return draw_samples(bundle.manifest, Tokenizer(raw_tokenizer()))


def scores_of(ranker: ListRanker, sample: ListSample) -> NDArray[np.float32]:
    return ranker.score(sample.fields, sample.items, truncation=sample.truncation).scores


def runs_of(bundle: Bundle, lengths: Sequence[int]) -> TokenRuns:
    """Lists of drawn ids, each ending in a marker if there is one, and embeddings in the middle where it takes any."""
    lists, rng = bundle.manifest.lists, np.random.default_rng(0)
    assert lists is not None
    others = np.setdiff1d(np.arange(bundle.manifest.shape.vocab_size), lists.marker_ids)
    runs = []
    for length in lengths:
        ids = rng.choice(others, length)
        if lists.item_marker is not None:
            ids[-1] = ids[length // 3] = lists.item_marker.id
        embeddings = None
        if bundle.manifest.embedding is not None and length > 4:
            ids[length // 2] = EMBEDDED
            embeddings = rng.standard_normal((1, 24)).astype(np.float32)
        runs.append(TokenRun(ids, embeddings))
    return TokenRuns.of(runs)


def marks_of(bundle: Bundle) -> int:
    """Counts the places at which a list of `runs_of` is read."""
    lists = bundle.manifest.lists
    assert lists is not None
    return 1 if lists.item_marker is None else 2


def test_scores_are_those_of_the_cpu_in_every_mode(
    bundle: Bundle, device: DeviceMarkedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ListRanker.load(bundle, config=EngineConfig(threads=1)) as ranker:
        expected = [scores_of(ranker, sample) for sample in samples_of(bundle)]
    monkeypatch.setattr(choice, "load_marked_backend", lambda *_, **__: device)
    monkeypatch.setattr(device, "close", lambda: None)  # the fixture's
    with ListRanker.load(bundle) as ranker:
        for sample, scores in zip(samples_of(bundle), expected, strict=True):
            np.testing.assert_allclose(scores_of(ranker, sample), scores, atol=2e-5, err_msg=sample.mode)
        futures = [
            ranker.submit(each.fields, each.items, truncation="truncate") for each in samples_of(bundle)
        ]
        for future, scores in zip(futures, expected, strict=True):
            np.testing.assert_allclose(future.result(30).scores, scores, atol=2e-5)


def test_lists_of_any_length_share_a_pass(bundle: Bundle, device: DeviceMarkedBackend) -> None:
    """Padding, other lists and what memory held before change no row; windows end within a list."""
    cpu = OnnxRuntimeMarkedBackend(bundle.for_target("onnx-cpu"), "list", EngineConfig(threads=1))
    runs = runs_of(bundle, [1, 5, 3 * WINDOW + 1, WINDOW - 1, WINDOW + 1, 17])
    expected = [cpu.compute(runs.part(place, place + 1)) for place in range(len(runs))]
    cpu.close()
    np.testing.assert_allclose(device.compute(runs), np.concatenate(expected), atol=2e-5)
    for place, rows in enumerate(expected):
        np.testing.assert_allclose(device.compute(runs.part(place, place + 1)), rows, atol=2e-5)


def test_the_longest_list_is_padded_to_nothing_beyond_positions(
    bundle: Bundle, device: DeviceMarkedBackend
) -> None:
    longest = bundle.manifest.max_text_tokens
    assert device.compute(runs_of(bundle, [longest])).shape[0] == marks_of(bundle)
    warm_up_lists(device, bundle.manifest, EngineConfig(max_batch_tokens=256))


def test_each_layer_attends_by_one_kernel_and_no_mask_is_made_on_the_host(bundle: Bundle) -> None:
    view = bundle.for_target("onnx-cuda")
    graph = ir.load(view.file(view.graph("list").file)).graph
    operators = [node.op_type for node in graph]
    attention = [node for node in graph if node.op_type == "MultiHeadAttention"]
    # Without a window one that looks back needs no mask at all; all lists share that of a window.
    windows, injects = len(attention) - 1, bundle.manifest.embedding is not None
    assert [node.attributes["unidirectional"].as_int() for node in attention] == [0] * windows + [1]
    assert operators.count("Where") == windows + injects
    assert windows != injects
    assert not without_kernel(graph)
    assert not {"Softmax", "Range", "Neg"} & set(operators)


def test_only_rows_of_markers_leave_the_device(
    bundle: Bundle, device: DeviceMarkedBackend, memory: HostMemory
) -> None:
    assert bundle.manifest.lists is not None
    device.compute(runs_of(bundle, [200, 200]))
    assert memory.transfers.to_host == 2 * marks_of(bundle) * bundle.manifest.lists.width * 4


def test_started_passes_keep_their_rows_apart(bundle: Bundle, device: DeviceMarkedBackend) -> None:
    runs = runs_of(bundle, [9, 30, 12, 70, 8])
    expected = [device.compute(runs.part(place, place + 1)) for place in range(len(runs))]
    started = [device.start(runs.part(place, place + 1)) for place in range(len(runs))]
    for place in reversed(range(len(runs))):
        np.testing.assert_array_equal(started[place].results(), expected[place])


def test_a_pass_that_comes_again_is_recorded(bundle: Bundle, memory: HostMemory) -> None:
    numbers = list[int | None]()
    backend = host_lists(bundle.for_target("onnx-cuda"), memory, numbers.append)
    for length in (61, 62, 63, 64):  # one size
        backend.compute(runs_of(bundle, [length]))
    assert numbers[:2] == [None, None]
    assert numbers[2] is not None
    assert numbers[3] == numbers[2]
    backend.close()
    assert not memory.alive


@pytest.mark.parametrize("precision", every_run(["fp16", "bf16"], ()))
def test_half_precision_is_proven_by_its_twin(precision: str, tmp_path: Path) -> None:
    source = jina_checkpoint(tmp_path / "c", **SLIDING)
    options = {"kind": "list-ranker", "target": "onnx-cuda", "precision": precision, "max_list_items": 12}
    made = export(source, tmp_path / "b", **options, **TOKENS)
    parity = made.manifest.parity
    assert parity is not None
    assert (parity.precision, parity.backend) == (precision, "onnxruntime-cpu, half precision emulated")
    assert parity.noise is not None
    assert {mode.mode for mode in parity.modes} >= {"one_block", "several_blocks", "embeddings", "truncation"}
    graph = ir.load(made.file(made.graph("list").file)).graph
    assert not without_kernel(graph)
    assert graph.outputs[0].dtype == ir.DataType.FLOAT
    half = ir.DataType.FLOAT16 if precision == "fp16" else ir.DataType.BFLOAT16
    assert {node.outputs[0].dtype for node in graph if node.op_type == "MultiHeadAttention"} == {half}
    exact = [node for node in graph if node.op_type == "MatMul" and node.outputs[0].dtype != half]
    assert [node.outputs[0].shape and node.outputs[0].name for node in exact][-1] == "vectors"
    assert len(exact) == 2  # the projector's
    embeddings = next(tensor for tensor in made.graph("list").inputs if tensor.name == "embeddings")
    assert embeddings.dtype == ("float16" if precision == "fp16" else "float32")
    assert verify(made.path, source).failures == ()
    with pytest.raises(InvalidRequest, match="which a CPU does not compute in"):
        ListRanker.load(made)


@pytest.mark.skipif(has_cuda(), reason="there is a GPU")
def test_without_a_gpu_the_error_says_what_to_install(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match=r"pip install 'rankport\[cuda\]'|no NVIDIA GPU"):
        ListRanker.load(bundle, config=EngineConfig(device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU, or no onnxruntime-gpu")
def test_scores_on_cuda_are_those_of_the_cpu(bundle: Bundle) -> None:
    with ListRanker.load(bundle, config=EngineConfig(threads=1)) as ranker:
        expected = [scores_of(ranker, sample) for sample in samples_of(bundle)]
    with ListRanker.load(bundle, config=EngineConfig(device="cuda")) as ranker:
        for sample, scores in zip(samples_of(bundle), expected, strict=True):
            for _ in range(4):  # launched, recorded, replayed
                np.testing.assert_allclose(scores_of(ranker, sample), scores, atol=2e-4, err_msg=sample.mode)


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no NVIDIA GPU, or no onnxruntime-gpu")
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_on_cuda_is_proven(precision: str, tmp_path: Path) -> None:
    source = jina_checkpoint(tmp_path / "c", **SLIDING)
    options = {"kind": "list-ranker", "target": "onnx-cuda", "precision": precision}
    made = export(source, tmp_path / "b", **options, **TOKENS)
    assert verify(made.path, source, device="cuda").failures == ()
