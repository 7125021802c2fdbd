"""Quantized checkpoints become bundles that stay low-bit and answer as their own libraries do, up to gRPC."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from rankport.exporters.export import export
from rankport.exporters.kinds.ranker.proof.modes import MODES, measure
from rankport.exporters.kinds.ranker.proof.samples import sample_requests
from rankport.runtime.backends.ort.cpu import OnnxRuntimePrefixBackend
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import ModeParity
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.server import Server
from rankport.runtime.tokens import TokenRun
from rankport.sdk import Client
from support.checkpoints import VOCABULARY, tiny_tokenizer
from support.effort import every_run
from support.forms.gptq_checkpoints import Gptq, formula_model
from support.forms.gptq_checkpoints import gptq as write_gptq
from support.forms.quantized_checkpoints import compressed_tensors, library_model, quiet
from support.servers.serving import LOCAL

LABELS = (4, 5)  # yes, no


def _logits(model: nn.Module, prefix: TokenRun, items: Sequence[TokenRun]) -> NDArray[np.float32]:
    """[items, labels] of full sequences, one at a time."""
    rows = []
    with quiet(), torch.no_grad():
        for item in items:
            ids = torch.tensor(np.concatenate([prefix.ids, item.ids]))[None]
            rows.append(model(input_ids=ids).logits[0, -1, list(LABELS)].numpy())
    return np.stack(rows).astype(np.float32)


def _modes(bundle: Bundle, model: nn.Module) -> list[ModeParity]:
    requests = sample_requests(VOCABULARY, bundle.manifest.shape.hidden_size, bundle.manifest.limits, None)
    backend = OnnxRuntimePrefixBackend(bundle)
    try:
        modes = measure(backend, [_logits(model, r.prefix, r.items) for r in requests], requests)
    finally:
        backend.close()
    assert len(modes) == len(MODES)
    return modes


def _export(folder: Path, out: Path) -> Bundle:
    return export(folder, out, kind="ranker", label_ids=LABELS, max_prefix_tokens=40, max_item_tokens=24)


def _require_low_bit_size(bundle: Bundle) -> None:
    """Bits x weights, the embedding table and the label rows, and a tenth for scales and norms."""
    quantization = bundle.manifest.quantization
    assert quantization is not None
    assert quantization.by == "checkpoint"
    low_bit = sum(part.weights * part.bits // 8 for part in quantization.parts)
    kept = (VOCABULARY + len(LABELS)) * bundle.manifest.shape.hidden_size * 4
    places = {}
    for spec in bundle.manifest.graphs:
        graph = onnx.load(bundle.path / spec.file, load_external_data=False).graph
        for tensor in graph.initializer:
            place = {entry.key: entry.value for entry in tensor.external_data}
            if place:
                places[place["offset"]] = int(place["length"])
    assert low_bit + kept <= sum(places.values()) <= 1.1 * low_bit + kept


WEIGHT_ONLY: dict[str, tuple[Callable[[Path], Path], Callable[[Path], nn.Module]]] = {
    "compressed-tensors W4A16": (
        lambda to: compressed_tensors(to, "W4A16", num_hidden_layers=1),
        library_model,
    ),
    "compressed-tensors W4A16 asymmetric": (
        lambda to: compressed_tensors(to, "W4A16_ASYM", num_hidden_layers=1),
        library_model,
    ),
    "GPTQ int4 act order": (
        lambda to: write_gptq(
            to, Gptq(group_size=64, desc_act=True, checkpoint_format="gptq_v2"), num_hidden_layers=1
        ),
        formula_model,
    ),
    "GPTQ int8 asymmetric": (
        lambda to: write_gptq(to, Gptq(bits=8, group_size=64, sym=False)),
        formula_model,
    ),
}


EVERY_RUN = ("compressed-tensors W4A16 asymmetric", "GPTQ int4 act order")


@pytest.mark.parametrize("form", every_run(WEIGHT_ONLY, EVERY_RUN))
def test_a_bundle_of_low_bit_weights_stays_so_and_equals_its_library_in_every_mode(
    form: str, tmp_path: Path
) -> None:
    make, reference = WEIGHT_ONLY[form]
    folder = make(tmp_path / "c")
    bundle = _export(folder, tmp_path / "b")
    modes = _modes(bundle, reference(folder))
    assert max(mode.max_abs_error for mode in modes) <= 1e-4
    assert min(mode.kendall_tau for mode in modes) >= 0.999
    _require_low_bit_size(bundle)


@pytest.mark.parametrize("scheme", every_run(["W8A8", "FP8", "FP8_DYNAMIC"], {"W8A8", "FP8_DYNAMIC"}))
def test_a_bundle_of_low_bit_activations_equals_its_library_but_for_flips_of_a_rounding(
    scheme: str, tmp_path: Path
) -> None:
    # The last bit of a sum decides a rounding, and no two orders of a sum agree in it: noise of 1e-6 in the inputs of
    # two layers of random weights moves logits by 1 % of themselves, and this runtime by half of that.
    folder = compressed_tensors(tmp_path / "c", scheme, num_hidden_layers=1)
    bundle = _export(folder, tmp_path / "b")
    modes = _modes(bundle, library_model(folder))
    assert max(mode.relative_error or 0.0 for mode in modes) <= 1e-2
    assert min(mode.kendall_tau for mode in modes) >= 0.99
    _require_low_bit_size(bundle)


def test_a_server_answers_what_the_library_answers(tmp_path: Path) -> None:
    folder = compressed_tensors(tmp_path / "c", "W4A16", tokenizer=True, num_hidden_layers=1)
    bundle = export(
        folder, tmp_path / "b", kind="ranker", labels=("yes", "no"), max_prefix_tokens=40, max_item_tokens=24
    )
    titles = ["software engineer", "chief cook", "nurse"]

    def run(text: str, end: tuple[int, ...] = ()) -> TokenRun:
        return TokenRun(np.array([*tiny_tokenizer().encode(text, add_special_tokens=False).ids, *end]))

    prefix = TokenRun(np.array([1, *run("senior data engineer").ids]))
    expected = _logits(library_model(folder), prefix, [run(title, (2,)) for title in titles])
    with (
        Ranker.load(bundle, config=EngineConfig(threads=1)) as ranker,
        Server({"low-bit": ranker}, LOCAL) as server,
        Client(server.address, model="low-bit", timeout_s=60) as client,
    ):
        answer = client.score("senior data engineer", titles)
    np.testing.assert_allclose(answer.logits, expected, rtol=0, atol=1e-4)
