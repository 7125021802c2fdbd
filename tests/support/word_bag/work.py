"""The word bag's part of an export: its maths, prompt, plan, graph and measurements."""

from contextlib import closing
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.graphs.trace import cut, drop_intermediate_shapes, trace
from rankport.exporters.kinds.work import ExportPlan, ExportWork
from rankport.exporters.options.prompts import ResolvedPrompt, framed_prompt
from rankport.exporters.options.proof_options import ProofOptions
from rankport.exporters.proof.compare import compare
from rankport.exporters.proof.emulation import Runnable
from rankport.exporters.proof.prove import Drift, Measured, Progress
from rankport.runtime.backends.choice import load_text_backend
from rankport.runtime.bundle.manifest import Embedding, Limits, Manifest, ModelShape, Precision, Target
from rankport.runtime.tokens import TokenRun, TokenRuns
from support.word_bag.row import WordBagOptions

# maths: what the kind computes, for the graph and, one text at a time, for the proof


class _Bag(nn.Module):
    """(input_ids, attention_mask), both [items, tokens] int64 -> [items, 1, hidden]."""

    def __init__(self, table: nn.Module, unit_length: bool) -> None:
        super().__init__()
        self.table, self.unit_length = table, unit_length

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        weights = attention_mask.float()[:, None, :]
        means = weights @ self.table(input_ids) / weights.sum(dim=-1, keepdim=True)
        return nn.functional.normalize(means, dim=-1) if self.unit_length else means


def expected_row(
    table: NDArray[np.float32], ids: NDArray[np.int64], unit_length: bool
) -> NDArray[np.float32]:
    """Computes one text by the definition, in numpy. [hidden]"""
    mean: NDArray[np.float32] = table[ids].mean(axis=0)
    return mean / np.float32(np.linalg.norm(mean)) if unit_length else mean


# the seam: what every kind says of an export


def _claims(model: StatedModel) -> bool:
    """Claims nothing: any checkpoint can be asked for as a word bag, none is one."""
    return False


def _prompt(source: Checkpoint, options: WordBagOptions) -> ResolvedPrompt:
    return framed_prompt(source.tokenizer_file)


def _plan(source: Checkpoint, prompt: ResolvedPrompt, options: WordBagOptions) -> ExportPlan:
    normalize, width = options.unit_length, source.hidden_size
    return ExportPlan(
        shape=ModelShape(hidden_size=width, vocab_size=source.vocab_size, layers=[]),
        limits=Limits(max_prefix_tokens=0, max_item_tokens=options.max_item_tokens or 512),
        embedding=Embedding(
            tokens=1, hidden_size=width, dtype="float32", pooling="mean", normalize=normalize
        ),
        graphs=partial(_graphs, normalize),
    )


def _graphs(
    unit_length: bool, source: Checkpoint, target: Target, precision: Precision
) -> dict[str, RoleGraph]:
    bag = _Bag(source.model.get_input_embeddings(), unit_length)  # type: ignore[operator]
    arguments: dict[str, Tensor | list[Tensor]] = {
        "input_ids": torch.ones(3, 7, dtype=torch.int64),
        "attention_mask": torch.ones(3, 7, dtype=torch.int64),
    }
    axes = {name: ["items", "item_tokens"] for name in arguments}
    graph = cut(trace(bag, arguments, axes, ["embeddings"]), {"embeddings": ["items", 1, source.hidden_size]})
    drop_intermediate_shapes(graph)
    return {"encode": RoleGraph(graph, {"encode": ("embeddings",)})}


def _measure(
    manifest: Manifest, place: Runnable, source: Checkpoint, options: ProofOptions, on_progress: Progress
) -> Measured:
    rng, longest = np.random.default_rng(0), min(manifest.limits.max_item_tokens, 64)
    runs = [rng.integers(0, source.vocab_size, size) for size in (1, longest, *range(1, longest + 1, 3))]
    table = source.model.get_input_embeddings().weight.detach().numpy()  # type: ignore[operator, union-attr]
    assert manifest.embedding is not None
    expected = np.stack([expected_row(table, run, bool(manifest.embedding.normalize)) for run in runs])
    texts = TokenRuns.of([TokenRun(run) for run in runs])
    with closing(load_text_backend(place.bundle, "encode", place.config)) as backend:
        alone = np.concatenate([backend.compute(texts.part(i, i + 1)) for i in range(len(texts))])
        batch = backend.compute(texts)
    modes = [
        compare(name, [expected], [rows[:, 0]]) for name, rows in (("one_item", alone), ("batch", batch))
    ]
    return Measured(modes, None, options.tolerance, None, _drift)


def _drift(original: Checkpoint) -> Drift:
    raise AssertionError("a word bag has no low bits")


WORK: ExportWork[WordBagOptions] = ExportWork(
    claims=_claims, head="none", prompt=_prompt, plan=_plan, measure=_measure
)
