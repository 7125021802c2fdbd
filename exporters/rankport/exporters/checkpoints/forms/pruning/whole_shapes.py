"""Tensors that a quantized checkpoint would store if its layers were whole: names and shapes, to fit widths to."""

from collections.abc import Mapping

from rankport.exporters.checkpoints.forms.stored_tensors import StoredTensors


class WholeShapes(StoredTensors):
    """The stored tensors, with a `weight` of its true shape for every packed layer. Holds nothing to read."""

    def __init__(self, stored: StoredTensors, packed: Mapping[str, tuple[int, int]]) -> None:
        """Takes in `packed` [out, in] of layers by name; a layer not in it keeps what is stored."""
        super().__init__(())
        self._shapes = {name: stored.shape(name) for name in stored}
        self._shapes |= {f"{layer}.weight": shape for layer, shape in packed.items()}
