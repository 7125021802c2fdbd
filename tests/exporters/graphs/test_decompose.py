"""Programs taken apart in place: the graphs and results of torch's own way, without its second trace."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from rankport.exporters.graphs.decompose import decomposed_in_place
from support.sharing.traces import KeptTraces

Computation = Callable[[Tensor], Tensor]
TAKEN_APART: dict[str, Computation] = {
    "a reshape of what cannot be viewed": lambda x: x.transpose(0, 1).reshape(-1, 6) * 2,
    "axes flattened, one of them dynamic": lambda x: x.transpose(0, 1).flatten(1) * 2,
    "axes flattened behind a dynamic one": lambda x: x.transpose(1, 2).flatten(1, 2) * 2,
    "all axes flattened": lambda x: x.flatten() * 2,
    "a change of type": lambda x: x.to(torch.int64).to(torch.float32) * 2,
    "a change to the same type": lambda x: (x * 2).to(torch.float32) + 1,
    "a change to the same type as the output": lambda x: (x * 2).to(torch.float32),
    "a change to the type of a tensor": lambda x: (x > 0).to(x) * 2,
    "an input as it is, as the output": lambda x: x.contiguous(),
    "conditions joined": lambda x: torch.where((x > 0) & (x < 1) | (x < -1), x, 0.0),
    "the sizes of another tensor": lambda x: x[:, :1].expand_as(x) * 2,
    "chunks of a fixed axis": lambda x: torch.cat(x.chunk(4, dim=-1)[::-1], dim=-1),  # of 2, 2 and 2
    "axes reversed": lambda x: x[0].T @ x[0],
    "dropout of a model that is not trained": lambda x: nn.functional.dropout(x * 2, 0.5, training=False) + 1,
    "a number less a tensor": lambda x: 1 - torch.tanh(x),
    "a square": lambda x: torch.square(x) + 1,
    "a constant made on the way": lambda x: x * torch.tensor(3.0),
    "the smaller and the larger of two": lambda x: torch.min(torch.max(x, -x), torch.ones_like(x)),
    "an axis unbound": lambda x: x.unbind(1)[3] - x.unbind(1)[0],
    "a sum written in place, as the output": lambda x: (x * 2).add_(x),
    "a sum written in place, twice": lambda x: _added_in_place(x, x, x) * 2,
}


def _added_in_place(x: Tensor, *others: Tensor | float) -> Tensor:
    sums = x * 2
    before = sums + 1
    for other in others:
        sums += other
    return before * sums


def _view_added(x: Tensor) -> Tensor:
    sums = x * 2
    row = sums[0]
    sums += 1
    return row * 3


def _added_to_view(x: Tensor) -> Tensor:
    sums = x * 2
    sums[0].add_(x[1])
    return sums * 3


def _added_double(x: Tensor) -> Tensor:
    sums = x * 2
    sums += x.double()
    return sums * 3


def _either(x: Tensor) -> Tensor:
    return torch.cond(x.shape[0] > 3, lambda y: y + 1, lambda y: y - 1, (x,))  # type: ignore[no-any-return]


TRACED_AGAIN: dict[str, Computation] = {
    "what is written in place seen in a view": _view_added,
    "a view written in place": _added_to_view,
    "another type written in place": _added_double,
    "written in place otherwise": lambda x: (x * 2).mul_(x) + 1,
    "chunks of a dynamic axis": lambda x: x.chunk(2, dim=0)[0] * 2,
    "dropout all the same": lambda x: nn.functional.dropout(x.sign(), 0.5, training=True).abs().amax(),
    "a number less a multiple": lambda x: torch.rsub(x, 1.0, alpha=2),
    "a branch": _either,
    "an operator that ONNX lacks": lambda x: torch.addcmul(x, x, x),
    "a view without a rule": lambda x: x.unflatten(2, (2, 3)) * 2,
}


def _numbers(rows: int) -> Tensor:
    return torch.randn(rows, 4, 6, generator=torch.Generator().manual_seed(rows))


class _Computed(nn.Module):
    def __init__(self, computation: Computation) -> None:
        super().__init__()
        self._computation = computation

    def forward(self, x: Tensor) -> Tensor:
        return self._computation(x)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the tracer's own, of its parts to come
        yield


@contextmanager
def _counted_traces(counts: list[int]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        trace_again = ExportedProgram.run_decompositions

        def counted(program: ExportedProgram, *arguments: object) -> ExportedProgram:
            counts.append(1)
            return trace_again(program, *arguments)  # type: ignore[arg-type]

        patch.setattr(ExportedProgram, "run_decompositions", counted)
        yield


def _exported(computation: Computation, *, in_place: bool) -> tuple[ir.Model, int]:
    """Gives its graph, and how often torch traced it again."""
    counts: list[int] = []
    way = decomposed_in_place() if in_place else nullcontext()
    with torch.no_grad(), _counted_traces(counts), way, _quiet():
        program = torch.onnx.export(
            _Computed(computation).eval(),
            kwargs={"x": _numbers(5)},
            dynamo=True,
            opset_version=21,
            dynamic_shapes={"x": {0: Dim.DYNAMIC}},
            verbose=False,
        )
    assert program is not None
    return program.model, len(counts)


def _results(model: ir.Model, x: Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    result: np.ndarray = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    return result


@pytest.fixture(autouse=True)
def anew(traces: KeptTraces) -> Iterator[None]:
    """Makes every trace."""
    with traces.anew():
        yield


@pytest.mark.parametrize("name", TAKEN_APART)
def test_a_program_taken_apart_in_place_is_the_graph_that_torch_makes(name: str) -> None:
    computation, x = TAKEN_APART[name], _numbers(3)
    graph, second_traces = _exported(computation, in_place=True)
    torchs, _ = _exported(computation, in_place=False)
    assert second_traces == 0
    assert sorted(node.op_type for node in graph.graph) == sorted(node.op_type for node in torchs.graph)
    np.testing.assert_allclose(_results(graph, x), computation(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TRACED_AGAIN)
def test_a_program_with_other_operators_goes_the_way_of_torch(name: str) -> None:
    module, x, counts = _Computed(TRACED_AGAIN[name]), _numbers(7), []
    with _quiet():
        program = torch.export.export(module, (_numbers(5),), dynamic_shapes=({0: Dim.DYNAMIC},))
    with _quiet(), _counted_traces(counts), decomposed_in_place():
        decomposed = program.run_decompositions(torch.export.default_decompositions())
    assert counts == [1]
    torch.testing.assert_close(decomposed.module()(x), module(x))


def test_the_way_of_torch_is_back_afterwards() -> None:
    before = ExportedProgram.run_decompositions
    with pytest.raises(ZeroDivisionError), decomposed_in_place():
        raise ZeroDivisionError
    assert ExportedProgram.run_decompositions is before
