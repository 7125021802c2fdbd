"""The pass that gathers rows of ids in a graph: what a host looks up, to the bit, in every type."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from rankport.exporters.kinds.set_ranker.id_rows import gather_ids
from rankport.exporters.kinds.set_ranker.rows import rounded_rows
from rankport.runtime.bundle.sections.sets import RowType, SetSchema

ROWS, WIDTH = 9, 3
IDS = [{"source": "id", "name": name, "table": "item"} for name in ("seen", "liked")]
GIVEN = [
    {"source": "dense", "name": "counts", "width": 2},
    {"source": "scalar", "name": "age", "scaling": "none"},
]


def schema(features: list[dict[str, object]]) -> SetSchema:
    return SetSchema.model_validate(
        {
            "tables": {"item": {"rows": ROWS, "width": WIDTH}},
            "event": [{"source": "id", "name": "item", "table": "item"}],
            "candidate": features,
            "mask": {"policy": "independent"},
            "max_events": 4,
            "max_candidates": 4,
        }
    )


def doubled(width: int) -> ir.Model:
    """y = 2 candidates."""
    given = ir.val("candidates", ir.DataType.FLOAT, ["candidates", width])
    node = ir.node("Add", [given, given])
    node.outputs[0].name, node.outputs[0].dtype = "y", ir.DataType.FLOAT
    return ir.Model(ir.Graph([given], node.outputs, nodes=[node], opset_imports={"": 21}), ir_version=10)


def run(model: ir.Model, given: dict[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    assert {value.name for value in session.get_inputs()} == given.keys()
    answer: NDArray[np.float32] = session.run(None, given)[0]
    return answer


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("order", [[0, 2, 1, 3], [2, 3, 0, 1], [0, 1]])
def test_rows_are_what_a_host_looks_up_to_the_bit(dtype: RowType, order: list[int]) -> None:
    features = [[*IDS, *GIVEN][place] for place in order]
    made, rng = schema(features), np.random.default_rng(0)
    stored = rounded_rows(torch.from_numpy(rng.standard_normal((ROWS, WIDTH)).astype(np.float32)), dtype)
    given = {"counts": rng.standard_normal((4, 2)), "age": rng.standard_normal((4, 1))}
    places = {"seen": np.array([8, 0, 3, 3]), "liked": np.array([1, 8, 8, 2])}
    names = [str(feature["name"]) for feature in features]
    own = [name for name in names if name in given]
    blocks: dict[str, NDArray[np.generic]] = {"table.item": np.asarray(stored.stored)}
    if stored.scales is not None:
        blocks["scales.item"] = stored.scales[:, None]
    if own:
        blocks["candidates"] = np.concatenate([given[name] for name in own], axis=1).astype(np.float32)
    ids = [places[name] for name in names if name in places]
    blocks["candidate_rows"] = np.stack(ids, axis=1).astype(np.int32)
    values = stored.values.numpy()
    expected = [given[name] if name in given else values[places[name]] for name in names]
    model = doubled(made.width(made.candidate))
    gather_ids(model, "candidates", "candidate_rows", made, made.candidate, dtype)
    np.testing.assert_array_equal(run(model, blocks), 2 * np.concatenate(expected, axis=1).astype(np.float32))


def test_a_side_without_ids_is_left_as_it_is() -> None:
    made = schema(GIVEN)
    model = doubled(3)
    gather_ids(model, "candidates", "candidate_rows", made, made.candidate, "int8")
    assert [value.name for value in model.graph.inputs] == ["candidates"]
    assert [node.op_type for node in model.graph] == ["Add"]
