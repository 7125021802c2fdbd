"""The `prefix` graph on the CPU: KV of runs, and the inputs of every graph whose runs continue a prefix."""

import numpy as np

from rankport.runtime.backends.contract import PrefixBatch, PrefixKV
from rankport.runtime.backends.layouts.by_target import layout_of
from rankport.runtime.backends.layouts.kept import KeptState, KeptTensor
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.ort.host_kv import Array, HostKV, joined_past, joined_states
from rankport.runtime.backends.ort.session import Session
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.manifest import Role
from rankport.runtime.config import EngineConfig

IN_PLACE = "in_place"
"""Input [1] of graphs that can write a token's KV behind the past: 1 where they shall."""


class PrefixGraph:
    """The session of the role `prefix`, and those of roles that go on from there."""

    def __init__(self, bundle: Bundle, config: EngineConfig) -> None:
        shape = bundle.manifest.shape
        self._bundle, self._config = bundle, config
        # Graphs for a GPU run here in fp32, as a proof has them.
        graphs = {graph.role: graph for graph in reversed(bundle.manifest.graphs)}
        self._kept = KeptTensor.of(graphs["prefix"])
        # States are those of all tokens before their end: where there are any, KV cannot be split.
        self.states = KeptState.of(graphs["prefix"])
        last = graphs.get("score", graphs["prefix"])
        self._lay_out = layout_of(last, EmbeddingsForm(shape.hidden_size))
        self._session = Session(bundle, "prefix", config)

    def of_role(self, role: Role) -> Session:
        """Loads the graph of another role. One graph may have both: then one session has, and one copy of weights."""
        return self._session.of_role(self._bundle, role) or Session(self._bundle, role, self._config)

    def prefill(self, batch: PrefixBatch) -> tuple[HostKV, ...]:
        """See `PrefixBackend.prefill`."""
        assert len(batch.runs) == len(batch.prefixes)
        inputs, slots = self.inputs(batch)
        outputs = self._session.run(inputs | {"kv_slots": np.array([slots])})
        by_name = dict(zip(self._session.output_names, outputs, strict=True))
        layers = tuple(by_name[tensor.new] for tensor in self._kept)
        states = tuple(by_name[state.new] for state in self.states)
        lengths = batch.runs.lengths.tolist()
        if len(lengths) == 1:
            return (HostKV(layers, states),)
        return tuple(
            HostKV(
                tuple(np.ascontiguousarray(layer[i : i + 1, :, :length]) for layer in layers),
                tuple(state[i : i + 1].copy() for state in states),
            )
            for i, length in enumerate(lengths)
        )

    def inputs(self, batch: PrefixBatch) -> tuple[dict[str, Array], int]:
        """Makes graph inputs by name, and counts the slots of a prefix."""
        layout = self._lay_out(batch)
        sizes = layout.sizes
        arrays = {name: value.array() for name, value in layout.inputs(sizes).items()}
        past = joined_past(batch.prefixes, batch.past_lengths, self._kept)
        states = joined_states(batch.prefixes, self.states)
        return arrays | past | states | {IN_PLACE: np.zeros(1, np.int64)}, sizes.rows * sizes.row_tokens

    def close(self) -> None:
        """Frees the session."""
        self._session.close()


def split_kv(kv: PrefixKV, length: int) -> tuple[HostKV, HostKV]:
    """Splits as `PrefixBackend.split`. Both halves own their memory, so that evicting one frees it."""
    assert isinstance(kv, HostKV)
    head = tuple(layer[:, :, :length].copy() for layer in kv.layers)
    return HostKV(head), HostKV(tuple(layer[:, :, length:].copy() for layer in kv.layers))
