"""ONNX Runtime on the CPU: sessions over a bundle's graphs, and KV as host arrays.

It and `cuda` beside it alone import onnxruntime.
"""

import itertools
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, BundleError
from rankport.runtime.backends.contract import PrefixBatch, PrefixKV, PrefixPieces, Started
from rankport.runtime.backends.layouts.by_target import layout_of
from rankport.runtime.backends.layouts.layout import EmbeddingsForm
from rankport.runtime.backends.layouts.padded import RowForm, pad
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.graph_files import check_graph_files
from rankport.runtime.bundle.manifest import GraphSpec, LayerKV, Role
from rankport.runtime.config import EngineConfig
from rankport.runtime.tokens import TokenRuns

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class HostKV:
    """Keys and values of consecutive prefix tokens in host memory."""

    layers: tuple[
        NDArray[np.float32], ...
    ]  # key 0, value 0, key 1, ...: each [1, kv_heads, length, head_dim]

    @property
    def length(self) -> int:
        """Tokens covered."""
        return int(self.layers[0].shape[2])

    @property
    def nbytes(self) -> int:
        """Host bytes held."""
        return sum(layer.nbytes for layer in self.layers)


class OnnxRuntimePrefixBackend:
    """The `prefix` and `score` graphs of a bundle on the CPU. Implements `PrefixBackend`."""

    table = None

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None) -> None:
        config = config or EngineConfig()
        self._widths = tuple(bundle.manifest.shape.layers)
        # Graphs for a GPU run here in fp32, as a proof has them.
        form = EmbeddingsForm(bundle.manifest.shape.hidden_size)
        self._lay_out = layout_of(bundle.graph("prefix").target, form)
        self._prefix = _Session(bundle, "prefix", config)
        # One graph may have both roles: then one session has both, and one packed copy of the weights.
        self._score = self._prefix.of_role(bundle, "score") or _Session(bundle, "score", config)

    def prefill(self, batch: PrefixBatch) -> tuple[HostKV, ...]:
        """See `PrefixBackend.prefill`."""
        assert len(batch.runs) == len(batch.prefixes)
        inputs, slots = self._inputs(batch)
        outputs = self._prefix.run(inputs | {"kv_slots": np.array([slots])})
        lengths = batch.runs.lengths.tolist()
        if len(lengths) == 1:
            return (HostKV(tuple(outputs)),)
        return tuple(
            HostKV(tuple(np.ascontiguousarray(layer[i : i + 1, :, :length]) for layer in outputs))
            for i, length in enumerate(lengths)
        )

    def score(self, batch: PrefixBatch) -> NDArray[np.float32]:
        """See `PrefixBackend.score`."""
        inputs, _ = self._inputs(batch)
        return self._score.run(inputs | {"kv_slots": np.zeros(1, np.int64)})[0]

    def start(self, batch: PrefixBatch) -> Started[np.float32]:
        """See `PrefixBackend.start`. Nothing goes on beside it on a CPU."""
        logits = self.score(batch)
        return Started(lambda: logits, done=True)

    def split(self, kv: PrefixKV, length: int) -> tuple[HostKV, HostKV]:
        """See `PrefixBackend.split`. Both halves own their memory, so that evicting one frees it."""
        assert isinstance(kv, HostKV)
        head = tuple(layer[:, :, :length].copy() for layer in kv.layers)
        return HostKV(head), HostKV(tuple(layer[:, :, length:].copy() for layer in kv.layers))

    def close(self) -> None:
        """Frees the sessions."""
        self._prefix.close()
        self._score.close()

    def _inputs(self, batch: PrefixBatch) -> tuple[dict[str, Array], int]:
        """Makes graph inputs by name, and counts the slots of a prefix."""
        layout = self._lay_out(batch)
        sizes = layout.sizes
        arrays = {name: value.array() for name, value in layout.inputs(sizes).items()}
        past = _past(batch.prefixes, layout.past_lengths, self._widths)
        return arrays | past, sizes.rows * sizes.row_tokens


class OnnxRuntimeTextBackend:
    """A graph of texts on the CPU. Implements `TextBackend`, or `TokenBackend` where its rows are of tokens."""

    def __init__(self, bundle: Bundle, role: Role, config: EngineConfig | None = None) -> None:
        self._graph = _Session(bundle, role, config or EngineConfig())
        self._row = RowForm.of(bundle.graph(role))

    def compute(self, texts: TokenRuns) -> NDArray[np.floating]:
        """See `TextBackend.compute`. Texts are padded to the longest."""
        padded = pad(texts)
        items, longest = padded.ids.shape
        inputs = padded.inputs(items, longest, self._graph.input_names)
        rows: NDArray[np.floating] = self._graph.run({name: value.array() for name, value in inputs.items()})[
            0
        ]
        return padded.cut(rows) if self._row.of_tokens else rows

    def start(self, texts: TokenRuns) -> Started[np.floating]:
        """See `TextBackend.start`. Nothing goes on beside it on a CPU."""
        rows = self.compute(texts)
        return Started(lambda: rows, done=True)

    def close(self) -> None:
        """Frees the session."""
        self._graph.close()


class OnnxRuntimeArrayGraph:
    """A graph of plain arrays on the CPU. Implements `ArrayGraph`."""

    def __init__(self, bundle: Bundle, role: Role, config: EngineConfig | None = None) -> None:
        self._graph = _Session(bundle, role, config or EngineConfig())

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """See `ArrayGraph.run`."""
        return self._graph.run(inputs)[0]

    def close(self) -> None:
        """Frees the session."""
        self._graph.close()


class _Session:
    """One role of a graph, loaded; takes more inputs than the graph has and ignores what it does not read."""

    def __init__(
        self, bundle: Bundle, role: Role, config: EngineConfig, shared: "_Session | None" = None
    ) -> None:
        graph = bundle.graph(role)
        if shared is None:
            check_graph_files(bundle, graph.file)
        session = _open(bundle, graph, config) if shared is None else shared._session
        assert session is not None, "closed"
        self._session: onnxruntime.InferenceSession | None = session
        self._file, self._config = graph.file, config
        self.input_names = frozenset(value.name for value in session.get_inputs())
        self._outputs = [output.name for output in graph.outputs]
        lacking = set(self._outputs) - {value.name for value in session.get_outputs()}
        if lacking:
            raise BundleError(f"{graph.file} lacks the outputs {sorted(lacking)} of its role {role!r}")

    def of_role(self, bundle: Bundle, role: Role) -> "_Session | None":
        """Returns the loaded graph in another role, if it has that."""
        if bundle.graph(role).file != self._file:
            return None
        return _Session(bundle, role, self._config, shared=self)

    def run(self, inputs: Mapping[str, Array]) -> list[NDArray[np.float32]]:
        assert self._session is not None, "closed"
        try:
            return cast(
                list[NDArray[np.float32]],
                self._session.run(self._outputs, {name: inputs[name] for name in self.input_names}),
            )
        except Exception as error:  # onnxruntime's exception classes share no other base
            raise BackendError(f"ONNX Runtime failed: {error}") from error

    def close(self) -> None:
        self._session = None


def _has_byte_products() -> bool:
    """Says whether the processor multiplies bytes and adds the products in 32 bits; where it cannot be known, no."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(name in flags for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def _needs_packing(bundle: Bundle) -> bool:
    """Says whether MatMulNBits, unpacked, would not round its inputs: other maths than what was proven, and slower."""
    quantization = bundle.manifest.quantization
    return quantization is not None and any(
        part.activations.startswith("int8 per ") and part.group_size is not None
        for part in quantization.parts
    )


def _open(bundle: Bundle, graph: GraphSpec, config: EngineConfig) -> onnxruntime.InferenceSession:
    path = bundle.file(graph.file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Shapes differ from pass to pass: a cached memory plan per shape would only grow.
    options.enable_mem_pattern = False
    if not _has_byte_products():
        # Sums of unsigned by signed bytes would saturate: unsigned weights are exact, slower and a copy.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if graph.target == "tensorrt":
        # Fused, Q/DQ pairs of 4-bit weights would round activations, and those of float8 be no valid graph.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Left to itself it would round the inputs of a dequantized 4-bit product, for speed.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if config.prepacking == "footprint" and not _needs_packing(bundle):
        options.add_session_config_entry("session.disable_prepacking", "1")
    # Idle workers give the cores back to tokenization and the other graph as soon as a pass ends.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception classes share no other base
        raise BundleError(f"ONNX Runtime cannot load {path.name}: {error}") from error


def _past(
    batch_prefixes: Sequence[PrefixPieces], lengths: NDArray[np.int64], widths: Sequence[LayerKV]
) -> dict[str, Array]:
    """Joins each layer's past keys and values, [prefixes, kv_heads, past, head_dim], padded at the end."""
    prefixes = cast(Sequence[tuple[HostKV, ...]], batch_prefixes)
    names = [f"past_{part}.{layer}" for layer in range(len(widths)) for part in ("key", "value")]
    if len(prefixes) == 1 and len(prefixes[0]) == 1:
        return dict(zip(names, prefixes[0][0].layers, strict=True))
    past = int(lengths.max())
    result: dict[str, Array] = {}
    for i, (name, width) in enumerate(
        zip(names, itertools.chain(*zip(widths, widths, strict=True)), strict=True)
    ):
        layer = np.zeros((len(prefixes), width.kv_heads, past, width.head_dim), np.float32)
        for row, pieces in zip(layer, prefixes, strict=True):
            start = 0
            for piece in pieces:
                row[:, start : start + piece.length] = piece.layers[i][0]
                start += piece.length
        result[name] = layer
    return result
