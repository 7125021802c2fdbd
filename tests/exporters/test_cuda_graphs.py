"""Graphs for CUDA of every kind: each node has a kernel there, in the types it is given, and passes can be recorded.

What has none would run on the CPU, copied there and back; in bfloat16 the graph would not load at all.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from transformers import AutoModelForSequenceClassification

from support import checkpoints
from support.effort import every_run
from support.forms.quantized_checkpoints import SHAPE
from support.gpu.cuda_kernels import without_kernel
from support.gpu.host_values import copied_to_device
from support.gpu.staged_graphs import staged_graphs
from support.hybrids import FAMILIES as HYBRIDS
from support.hybrids import hybrid
from support.lists import alone
from support.lists import rankers as lists
from support.reading.pair_encoders import pair_classifier
from support.reading.taggers import tagger_checkpoint
from support.reading.two_towers import CNN, LSTM, MLP, WIDE, saved, two_tower
from support.sets.rankers import set_checkpoint

Make = Callable[[Path], Path]

RANKER = {"kind": "ranker", "label_ids": (9, 17), "max_prefix_tokens": 40, "max_item_tokens": 24}
WRITER = {"kind": "generator", "max_prefix_tokens": 40, "max_item_tokens": 24}
ENCODER = {"kind": "item-encoder", "pooling": "mean", "normalize": True, "max_item_tokens": 24}
FP8 = {"quantize": "fp8", "fp8_products": True}
EXPERTS: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    "mixtral": {"num_local_experts": 4},
    "glm4_moe": {
        "n_routed_experts": 4,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 0,
        "head_dim": 8,
    },
}
GEMMA = {"head_dim": 16, "sliding_window": 64, "query_pre_attn_scalar": 16}
V2 = {
    "relative_attention": True,
    "max_relative_positions": -1,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "position_buckets": 8,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
}


def decoder(family: str, **fields: Any) -> Make:
    return lambda to: checkpoints.causal_lm(to, family, tokenizer=True, **fields)


def pairs(family: str, frame: str = "roberta") -> Make:
    return lambda to: pair_classifier(to, family, frame)


def body(family: str) -> Make:
    return lambda to: checkpoints.body(to, family, tokenizer=True)


def levels(to: Path) -> Path:
    names = {0: "low", 1: "middle", 2: "high"}
    fields = {"id2label": names, "label2id": {name: place for place, name in names.items()}}
    return checkpoints.save(to, AutoModelForSequenceClassification, "bert", True, fields)


def towers(to: Path) -> Path:
    module = two_tower(
        towers={"query": LSTM, "item": CNN}, interactions=["cosine", "hadamard"], wide=WIDE, head=MLP
    )
    return saved(module, to, tokenizer=True)


def sets(block: str, policy: str) -> Make:
    return lambda to: set_checkpoint(to, block, policy=policy)


CASES: dict[str, tuple[Make, dict[str, Any]]] = {
    **{
        f"ranker, {name}": (decoder(name, num_experts_per_tok=2, **more), RANKER)
        for name, more in EXPERTS.items()
    },
    **{f"ranker, {name}": (decoder(name), RANKER) for name in ("phi3", "olmo2", "gpt_neox", "cohere")},
    "ranker, gemma2": (decoder("gemma2", **GEMMA), RANKER),
    "ranker, by products": (decoder("qwen3"), RANKER | {"attention": "shared"}),
    "ranker, grouped": (decoder("qwen3", head_dim=16), RANKER | {"attention": "grouped"}),
    "ranker, embedding tokens": (
        decoder("qwen3"),
        RANKER | {"item_encoder": "0" * 64, "embedding_tokens": 1},
    ),
    **{
        f"ranker, {recipe}": (decoder("qwen3", num_hidden_layers=1, **SHAPE), RANKER | {"quantize": recipe})
        for recipe in ("int8", "int8-fine", "int4", "fp8")
    },
    **{f"ranker, {family}": (partial(hybrid, family=family), RANKER) for family in HYBRIDS},
    "ranker, qwen3.5, embedding tokens, int4": (
        partial(hybrid, family="qwen3.5"),
        RANKER | {"item_encoder": "0" * 64, "embedding_tokens": 1, "quantize": "int4"},
    ),
    "ranker, fp8 by fp8": (decoder("qwen3", num_hidden_layers=1, **SHAPE), RANKER | FP8),
    "generator": (decoder("gemma2", **GEMMA), WRITER),
    "generator, int4": (
        decoder("qwen3", num_hidden_layers=1, **SHAPE),
        WRITER | {"quantize": "int4"},
    ),
    **{f"generator, {family}": (partial(hybrid, family=family), WRITER) for family in HYBRIDS},
    **{f"cross-encoder, {name}": (pairs(name), {"kind": "cross-encoder"}) for name in ("mpnet", "roberta")},
    **{
        f"cross-encoder, {name}": (pairs(name, "bert"), {"kind": "cross-encoder"})
        for name in ("bert", "albert", "electra", "deberta-v2", "modernbert")
    },
    "cross-encoder, fp8 by fp8": (pairs("bert", "bert"), {"kind": "cross-encoder"} | FP8),
    "cross-encoder, int8": (pairs("bert", "bert"), {"kind": "cross-encoder", "quantize": "int8"}),
    **{f"item-encoder, {name}": (body(name), ENCODER) for name in ("bert", "mpnet", "modernbert")},
    "item-encoder, last tokens": (
        body("qwen3"),
        ENCODER | {"pooling": "last-k", "tokens": 2, "normalize": False},
    ),
    "item-encoder, qwen3.5": (
        partial(hybrid, family="qwen3.5"),
        ENCODER | {"pooling": "last-k", "tokens": 2, "normalize": False},
    ),
    "classifier": (levels, {"kind": "classifier", "max_item_tokens": 24}),
    "classifier, fp8 by fp8": (levels, {"kind": "classifier", "max_item_tokens": 24} | FP8),
    "tagger, deberta-v2": (
        lambda to: tagger_checkpoint(to, model_type="deberta-v2", **V2),
        {"kind": "tagger", "max_item_tokens": 24},
    ),
    "two-tower": (towers, {"kind": "two-tower"}),
    **{
        f"set-ranker, {block} {policy}": (
            sets(block, policy),
            {"kind": "set-ranker", "table_dtype": table_dtype},
        )
        for block, policy, table_dtype in (
            ("hstu", "set-wise", "float16"),
            ("ligr", "top", "int8"),
            ("hstu", "independent", "float16"),
        )
    },
    "list-ranker": (lambda to: lists.checkpoint(to), {"kind": "list-ranker"}),
    "list-ranker, alone": (lambda to: alone.decoder_checkpoint(to), {"kind": "list-ranker"}),
}
EVERY_RUN = {
    *(
        "ranker, qwen3_moe",
        "ranker, falcon-h1",
        "cross-encoder, mpnet",
        "tagger, deberta-v2",
        "two-tower",
        "list-ranker",
    ),
    *(
        "set-ranker, hstu set-wise",
        "set-ranker, ligr top",
        "generator",
        "classifier",
        "item-encoder, modernbert",
    ),
}
"""Each kind, and the operators that were without a kernel once."""


@pytest.mark.parametrize("precision", every_run(["bf16", "fp16"], {"bf16"}))
@pytest.mark.parametrize("case", every_run(CASES, EVERY_RUN))
def test_every_node_has_a_kernel_and_passes_can_be_recorded(
    case: str, precision: str, tmp_path: Path
) -> None:
    make, options = CASES[case]
    graphs = staged_graphs(make(tmp_path / "c"), tmp_path, **options, target="onnx-cuda", precision=precision)
    assert graphs
    found = {
        name: (without_kernel(model.graph), copied_to_device(model.graph)) for name, model in graphs.items()
    }
    assert found == dict.fromkeys(graphs, ([], []))


def test_a_size_that_the_device_reads_as_data_is_told() -> None:
    rows = ir.Value(name="rows", shape=ir.Shape(["rows"]), type=ir.TensorType(ir.DataType.INT64))
    size = ir.node("Shape", [rows])
    turned = ir.node("Sub", [size.outputs[0], rows])
    shaped = ir.node("Reshape", [rows, size.outputs[0]])
    size.outputs[0].name = "size"
    graph = ir.Graph([rows], [], nodes=[size, turned, shaped], opset_imports={"": 20})
    assert copied_to_device(graph) == ["Sub reads size in place 0"]
