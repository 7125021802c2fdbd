"""Types promoted from what a trace noted: the graph that torch makes when it runs the whole program again."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stdout

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.onnx._internal.fx.passes import type_promotion

from rankport.exporters.graphs.promotion import promoted_from_notes
from support.sharing.traces import KeptTraces

COMPUTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing to promote": lambda x: torch.tanh(x * 2 + x),
    "an integer and a number": lambda x: x.to(torch.int64) + 0.5,
    "an integer, a float and a double": lambda x: x.to(torch.int32) * x + x.double(),
    "a condition counted": lambda x: (x > 0).sum(-1) * x[:, 0],
    "a quotient of integers": lambda x: x.to(torch.int64) / 3,
    "a power of an integer": lambda x: torch.arange(4) ** 0.5 + x,
    "either of two types": lambda x: torch.where(x > 0, x.half(), x) + 1,
    "what a promotion gives, promoted again": lambda x: (x.to(torch.int64) + 0.5) * x.double() + 1,
}


class Computed(nn.Module):
    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(computation(x) for computation in COMPUTATIONS.values())


class Masked(nn.Module):
    """Subtracts integers from a float, as XLNet does of its mask: torch promotes no tensor behind a number."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.0 - x.to(torch.int64)


def exported(from_notes: bool, module: nn.Module | None = None) -> ir.Model:
    way = promoted_from_notes() if from_notes else nullcontext()
    with torch.no_grad(), way, warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of torch about itself
        program = torch.onnx.export(
            (module or Computed()).eval(),
            kwargs={"x": torch.randn(5, 4)},
            dynamo=True,
            opset_version=21,
            dynamic_shapes={"x": {0: Dim.DYNAMIC}},
            verbose=False,
        )
    assert program is not None
    return program.model


@pytest.fixture(scope="module")
def graph(traces: KeptTraces) -> Iterator[ir.Model]:
    with traces.anew():
        yield exported(from_notes=True)


def test_the_graph_is_that_of_torch(graph: ir.Model, traces: KeptTraces) -> None:
    with traces.anew():
        torchs = exported(from_notes=False)
    assert nodes(graph) == nodes(torchs)
    assert [value.dtype for value in graph.graph.outputs] == [value.dtype for value in torchs.graph.outputs]


def nodes(model: ir.Model) -> list[tuple[str, list[str | None], list[str | None]]]:
    return [
        (
            node.op_type,
            [value and value.name for value in node.inputs],
            [value.name for value in node.outputs],
        )
        for node in model.graph
    ]


def test_the_graph_computes_as_the_module(graph: ir.Model) -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString())
    results = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for name, expected, result in zip(COMPUTATIONS, Computed()(x), results, strict=True):
        assert result.dtype == expected.numpy().dtype, name
        np.testing.assert_allclose(result, expected.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)


def test_integers_subtracted_from_a_float_are_floats(traces: KeptTraces) -> None:
    x = torch.tensor([[1.5, -2.5, 0.0, 7.0]])
    with traces.anew():
        graph = exported(from_notes=True, module=Masked())
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString())
    np.testing.assert_array_equal(
        session.run(None, {session.get_inputs()[0].name: x.numpy()})[0], [[0.0, 3.0, 1.0, -6.0]]
    )


def test_the_way_of_torch_is_back_afterwards() -> None:
    interpreter = type_promotion._TypePromotionInterpreter
    before = interpreter.run_node
    with pytest.raises(ZeroDivisionError), promoted_from_notes():
        raise ZeroDivisionError
    assert interpreter.run_node is before
