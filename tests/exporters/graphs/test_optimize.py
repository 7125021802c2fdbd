"""A graph is optimized as onnxscript's own optimizer does it: the same nodes, constants and names."""

import warnings

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
import pytest
import torch
from torch import Tensor, nn

from rankport.exporters.graphs.optimize import optimize
from support.sharing.traces import KeptTraces


class Busy(nn.Module):
    """Does what rules are made for: ones, zeros, casts, slices, reshapes, relus, clips, a convolution and its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(4, 6, 3, bias=False)
        self.norm = nn.BatchNorm1d(6)
        self.linear = nn.Linear(6, 6)

    def forward(self, states: Tensor) -> Tensor:
        states = states * 1 + 0
        states = states[:, :, 0:4].transpose(1, 2)
        states = self.norm(self.convolution(nn.functional.pad(states, (1, 1))))
        states = torch.relu(torch.relu(states)).clamp(0.0, 9.0).clamp(max=6.0)
        states = states.transpose(1, 2).transpose(1, 2).transpose(1, 2)
        rows = states.reshape(-1, 2, 3).reshape(-1, 6)
        rows = self.linear(rows).to(torch.float64).to(torch.float32)
        rows = torch.minimum(torch.maximum(rows, torch.tensor(-3.0)), torch.tensor(3.0))
        return rows[None][:, :, None].squeeze(2).expand(1, -1, 6) / 1 - 0


@pytest.fixture(scope="module")
def traced(traces: KeptTraces) -> ir.Model:
    with traces.anew(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        program = torch.onnx.export(
            Busy().eval(),
            kwargs={"states": torch.randn(2, 8, 4)},
            dynamo=True,
            optimize=False,
            opset_version=21,
            dynamic_shapes={"states": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}},
            verbose=False,
        )
    assert program is not None
    return program.model


def test_the_graph_is_that_of_the_whole_optimizer(traced: ir.Model) -> None:
    ours, own = traced.clone(), traced.clone()
    optimize(ours)
    onnxscript.optimizer.optimize_ir(own)
    assert _nodes(ours) == _nodes(own)
    assert len(_nodes(ours)) < len(_nodes(traced))
    assert list(ours.graph.initializers) == list(own.graph.initializers)


@pytest.mark.parametrize(
    ("operator", "number", "kept"),
    [
        *[(operator, number, number != 0) for operator in ("Add", "Sub") for number in (0.0, 1e-8, -1e-30)],
        *[(operator, number, number != 1) for operator in ("Mul", "Div") for number in (1.0, 1.000005)],
    ],
)
def test_numbers_next_to_nothing_are_kept(operator: str, number: float, kept: bool) -> None:
    """Helium's norms, of epsilon 1e-8, gave NaN of a token whose embedding is of zeros, as padding's is."""
    states = ir.val("states", ir.DataType.FLOAT, ir.Shape(["tokens", 4]))
    constant = ir.val("number", const_value=ir.tensor(np.array(number, np.float32), name="number"))
    node = ir.node(operator, [states, constant])
    node.outputs[0].name = "result"
    graph = ir.Graph([states], node.outputs, nodes=[node], initializers=[constant], opset_imports={"": 21})
    optimize(ir.Model(graph, ir_version=10))
    assert [node.op_type for node in graph] == [operator if kept else "Identity"]


def _nodes(model: ir.Model) -> list[tuple[object, ...]]:
    return [
        (
            node.op_type,
            [None if value is None else value.name for value in node.inputs],
            [value.name for value in node.outputs],
        )
        for node in model.graph
    ]
