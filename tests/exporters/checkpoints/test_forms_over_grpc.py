"""Every form of checkpoint, from its folder to a gRPC answer that its model in torch gives too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.labels.label_head import ReadOut
from rankport.exporters.kinds.ranker.proof.reference import RankerReference
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.server import Server
from rankport.runtime.tokens import TokenRun
from rankport.sdk import Client
from support import checkpoints
from support.effort import every_run
from support.forms.adapters import lora
from support.forms.expanded_checkpoints import expanded_checkpoint
from support.forms.gptq_checkpoints import Gptq, gptq
from support.forms.pruned import prune
from support.forms.quantized_checkpoints import compressed_tensors
from support.servers.serving import LOCAL

LABELS = (4, 5)
Form = Callable[[Path], tuple[Path, dict[str, Any]]]
GPTQ = Gptq(group_size=64, desc_act=True, checkpoint_format="gptq_v2")


def dense(folder: Path, **overrides: Any) -> Path:
    return checkpoints.causal_lm(folder / "dense", "qwen3", **{"head_dim": 16, **overrides})


def pruned(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Two of four layers, half the neurons, and one layer with one KV head less."""
    halved = {"intermediate_size": 24, "num_hidden_layers": 2, "layer_types": None, "max_window_layers": None}
    whole = dense(folder, num_hidden_layers=4, head_dim=8)
    cut = prune(whole, folder / "c", kv_heads={1: 1}, intermediate={0: 24, 1: 24}, layers=2, config=halved)
    return cut, {}


def adapted(folder: Path) -> tuple[Path, dict[str, Any]]:
    base = dense(folder)
    lora(folder / "c", base, r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"])
    return folder / "c", {"base": base}


def adapted_over_codes(folder: Path) -> tuple[Path, dict[str, Any]]:
    base = gptq(folder / "base", GPTQ)
    lora(folder / "c", folder / "base-dense", r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"])
    return folder / "c", {"base": base}


FORMS: dict[str, tuple[Form, float]] = {
    "pruned": (pruned, 1e-5),
    "LoRA adapter": (adapted, 1e-5),
    "LoRA adapter over GPTQ": (adapted_over_codes, 1e-5),
    "Control LLM": (lambda folder: (expanded_checkpoint(folder / "c", "qwen2", "hybrid", "dlerp"), {}), 1e-5),
    "W4A16": (lambda folder: (compressed_tensors(folder / "c", "W4A16"), {}), 1e-5),
    "W8A8": (lambda folder: (compressed_tensors(folder / "c", "W8A8", num_hidden_layers=1), {}), 1e-2),
    "FP8": (lambda folder: (compressed_tensors(folder / "c", "FP8", num_hidden_layers=1), {}), 1e-2),
    "FP8 per token": (
        lambda folder: (compressed_tensors(folder / "c", "FP8_DYNAMIC", num_hidden_layers=1), {}),
        1e-2,
    ),
    "GPTQ": (lambda folder: (gptq(folder / "c", GPTQ), {}), 1e-5),
    "enlarged vocabulary": (
        lambda folder: (dense(folder, vocab_size=150, tie_word_embeddings=True), {}),
        1e-5,
    ),
}
"""With the relative error allowed: rounded activations of a random model flip, see docs/checkpoints.md."""


EVERY_RUN = ("LoRA adapter",)
"""The others are proven form by form beside, expanded and low-bit ones up to a client's answer too."""


@pytest.mark.parametrize("form", every_run(FORMS, EVERY_RUN))
def test_a_folder_becomes_an_answer_over_grpc(form: str, tmp_path: Path) -> None:
    make, allowed = FORMS[form]
    folder, options = make(tmp_path)
    labels = (140, 9) if form == "enlarged vocabulary" else LABELS
    bundle = export(
        folder,
        tmp_path / "b",
        kind="ranker",
        label_ids=labels,
        max_prefix_tokens=32,
        max_item_tokens=16,
        **options,
    )
    rng = np.random.default_rng(1)
    prefix, items = rng.integers(3, 100, 12), [rng.integers(3, 100, length) for length in (1, 7, 3)]
    source = load_checkpoint(folder, base=options.get("base"))
    reference = RankerReference(source, ReadOut("lm_head", labels))
    expected = reference.logits(TokenRun(prefix), [TokenRun(item) for item in items])
    with (
        Ranker.load(bundle, config=EngineConfig(threads=1)) as ranker,
        Server({"form": ranker}, LOCAL) as server,
        Client(server.address, model="form", timeout_s=60) as client,
    ):
        first, again = (client.score(prefix.tolist(), [item.tolist() for item in items]) for _ in range(2))
    assert again.usage.prefix_tokens_cached == len(prefix)
    for answer in (first, again):
        assert np.linalg.norm(answer.logits - expected) / np.linalg.norm(expected) <= allowed
