"""A row a token: both backends of texts answer with the rows of real tokens alone, text after text."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rankport.exporters.kinds.texts.samples import sample_runs
from rankport.protos.errors import BundleError
from rankport.runtime.backends.devices.encoding import DeviceTextBackend
from rankport.runtime.backends.layouts.padded import RowForm
from rankport.runtime.backends.ort.cpu import OnnxRuntimeTextBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRun, TokenRuns
from support.gpu.host_device import HostMemory, host_graph
from support.reading.taggers import NAMES, tagger_checkpoint, tagger_draft

pytestmark = pytest.mark.usefixtures("traces")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, exported: Callable[..., Bundle]) -> Bundle:
    checkpoint = tagger_checkpoint(tmp_path_factory.mktemp("tagger"))
    return exported(checkpoint, name="tagger", max_item_tokens=24)


def test_rows_are_those_of_texts_alone(bundle: Bundle) -> None:
    runs = sample_runs(bundle.manifest.shape.vocab_size, 24, count=9)
    texts = TokenRuns.of([TokenRun(run) for run in runs])
    with (
        closing(OnnxRuntimeTextBackend(bundle, "tag", EngineConfig(threads=1))) as cpu,
        closing(DeviceTextBackend(bundle, "tag", host_graph(bundle, "tag"), HostMemory())) as device,
    ):
        alone = np.concatenate([cpu.compute(texts.part(i, i + 1)) for i in range(len(texts))])
        assert alone.shape == (len(texts.ids), len(NAMES))
        np.testing.assert_allclose(cpu.compute(texts), alone, atol=1e-5)
        np.testing.assert_allclose(device.compute(texts), alone, atol=1e-5)
        started = [device.start(texts.part(0, 4)), device.start(texts.part(4, 9))]
        np.testing.assert_allclose(np.concatenate([pass_.results() for pass_ in started]), alone, atol=1e-5)


def test_a_device_that_takes_less_answers_in_parts(bundle: Bundle) -> None:
    runs = sample_runs(bundle.manifest.shape.vocab_size, 24, count=6)
    texts = TokenRuns.of([TokenRun(run) for run in runs])
    memory, graph = HostMemory(), host_graph(bundle, "tag")
    with (
        closing(OnnxRuntimeTextBackend(bundle, "tag", EngineConfig(threads=1))) as cpu,
        closing(DeviceTextBackend(bundle, "tag", graph, memory, lambda sizes: sizes["items"] <= 2)) as device,
    ):
        np.testing.assert_allclose(device.compute(texts), cpu.compute(texts), atol=1e-5)


def test_the_form_of_a_row_is_read_off_the_graph(tmp_path: Path) -> None:
    (graph,) = tagger_draft().graphs
    form = RowForm.of(graph)
    assert (form.shape, form.of_tokens, form.padded(3, 8)) == ((len(NAMES),), True, (3, 8, len(NAMES)))
    (output,) = graph.outputs
    odd = graph.model_copy(update={"outputs": [output.model_copy(update={"shape": ["items", "rows", 5]})]})
    with pytest.raises(BundleError, match="rows of a fixed shape"):
        RowForm.of(odd)
