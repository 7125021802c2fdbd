"""The machine's own ceiling: the matrix products of one pass and nothing else, at the best measured sgemm.

The products are the ones the exported score graph computes for a cached prefix: the last block's output projection and
MLP run for one row an item. Two libraries time each product, torch and ONNX Runtime; the faster one counts.
"""

import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from transformers import PreTrainedConfig

from benchmarks.parts.model import CONFIG, Case

Product = tuple[int, int, int, int]  # batch, rows, inner, columns


def score_products(case: Case, config: PreTrainedConfig = CONFIG) -> Counter[Product]:
    """Products of a score pass over a cached prefix, with how often each occurs."""
    tokens, rows = case.items * case.item, case.items
    hidden, ffn, dim = config.hidden_size, config.intermediate_size, config.head_dim
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    group = heads // kv_heads
    products: Counter[Product] = Counter()
    for layer in range(config.num_hidden_layers):
        out = rows if layer == config.num_hidden_layers - 1 else tokens
        products.update(
            [
                (1, tokens, hidden, heads * dim),
                (1, tokens, hidden, kv_heads * dim),
                (1, tokens, hidden, kv_heads * dim),
                (kv_heads, tokens * group, dim, case.prefix),
                (kv_heads * case.items, case.item * group, dim, case.item),
                (kv_heads, tokens * group, case.prefix, dim),
                (kv_heads * case.items, case.item * group, case.item, dim),
                (1, out, heads * dim, hidden),
                (1, out, hidden, ffn),
                (1, out, hidden, ffn),
                (1, out, ffn, hidden),
            ]
        )
    return products


def flops(products: Counter[Product]) -> float:
    """Multiply-adds counted as two."""
    return float(sum(count * 2 * b * m * k * n for (b, m, k, n), count in products.items()))


class Ceiling:
    """Times products; call `seconds` once a round."""

    def __init__(self, products: Counter[Product]) -> None:
        self.products = products
        self._runners = {product: (_torch(product), _onnxruntime(product)) for product in self.products}

    def seconds(self) -> float:
        """All products once, each with the faster library."""
        return sum(
            min(_time(run, count) for run in self._runners[product])
            for product, count in self.products.items()
        )


def _time(run: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        run()
    return time.perf_counter() - start


def _torch(product: Product) -> Callable[[], object]:
    b, m, k, n = product
    left, right, out = torch.randn(b, m, k), torch.randn(b, k, n), torch.empty(b, m, n)
    if b == 1:
        return lambda: torch.mm(left[0], right[0], out=out[0])
    return lambda: torch.bmm(left, right, out=out)


def _onnxruntime(product: Product) -> Callable[[], object]:
    """The right operand of a plain product is a constant, so that it is packed beforehand as weights are."""
    b, m, k, n = product
    rng = np.random.default_rng(0)
    lead = [] if b == 1 else [b]
    left = ir.val("left", ir.DataType.FLOAT, [*lead, m, k])
    weight = rng.standard_normal((*lead, k, n), dtype=np.float32)
    if b == 1:
        right = ir.val("right", const_value=ir.tensor(weight, name="right"))
    else:
        right = ir.val("right", ir.DataType.FLOAT, [*lead, k, n])
    node = ir.node("MatMul", [left, right])
    node.outputs[0].name, node.outputs[0].dtype = "out", ir.DataType.FLOAT
    graph = ir.Graph(
        [left] if b == 1 else [left, right],
        node.outputs,
        nodes=[node],
        initializers=[right] if b == 1 else [],
        opset_imports={"": 20},
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("left", rng.standard_normal((*lead, m, k), dtype=np.float32))
    if b > 1:
        binding.bind_cpu_input("right", weight)
    out = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty((*lead, m, n), np.float32))
    binding.bind_ortvalue_output("out", out)
    return lambda: session.run_with_iobinding(binding)
