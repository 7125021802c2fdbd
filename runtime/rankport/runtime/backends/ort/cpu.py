"""ONNX Runtime on the CPU: sessions over a bundle's graphs, and KV as host arrays.

It and `cuda` beside it alone import onnxruntime.
"""

import itertools
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, BundleError
from rankport.runtime.backends.contract import Launched, PrefixKV, RaggedBatch
from rankport.runtime.backends.layouts.packed import PackedInputs, pack
from rankport.runtime.backends.layouts.padded import padded_texts
from rankport.runtime.backends.layouts.rectangle import rectangle
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.graph_files import check_graph_files
from rankport.runtime.bundle.manifest import GraphSpec, LayerKV, Role
from rankport.runtime.config import EngineConfig

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


class OnnxRuntimeScoringBackend:
    """The `prefix` and `score` graphs of a ranker bundle on the CPU. Implements `ScoringBackend`."""

    table = None

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None) -> None:
        config = config or EngineConfig()
        self._widths = tuple(bundle.manifest.shape.layers)
        self._hidden = bundle.manifest.shape.hidden_size
        self._for_gpu = bundle.graph("prefix").target == "onnx-cuda"  # in fp32, as a proof runs it here
        self._prefix = _Session(bundle, "prefix", config)
        # One graph may have both roles: then one session has both, and one packed copy of the weights.
        self._score = self._prefix.of_role(bundle, "score") or _Session(bundle, "score", config)

    def prefill(self, batch: RaggedBatch) -> tuple[HostKV, ...]:
        """See `ScoringBackend.prefill`."""
        assert len(batch.runs) == len(batch.prefixes)
        inputs = self._inputs(batch)
        slots = int(np.prod(inputs["slots" if "slots" in inputs else "input_ids"].shape[1:]))
        outputs = self._prefix.run(inputs | {"kv_slots": np.array([slots])})
        lengths = [len(run.ids) for run in batch.runs]
        if len(lengths) == 1:
            return (HostKV(tuple(outputs)),)
        return tuple(
            HostKV(tuple(np.ascontiguousarray(layer[i : i + 1, :, :length]) for layer in outputs))
            for i, length in enumerate(lengths)
        )

    def score(self, batch: RaggedBatch) -> NDArray[np.float32]:
        """See `ScoringBackend.score`."""
        return self._score.run(self._inputs(batch) | {"kv_slots": np.zeros(1, np.int64)})[0]

    def launch(self, batch: RaggedBatch) -> Launched[np.float32]:
        """See `ScoringBackend.launch`. Nothing goes on beside it on a CPU."""
        logits = self.score(batch)
        return Launched(lambda: logits, done=True)

    def split(self, kv: PrefixKV, length: int) -> tuple[HostKV, HostKV]:
        """See `ScoringBackend.split`. Both halves own their memory, so that evicting one frees it."""
        assert isinstance(kv, HostKV)
        head = tuple(layer[:, :, :length].copy() for layer in kv.layers)
        return HostKV(head), HostKV(tuple(layer[:, :, length:].copy() for layer in kv.layers))

    def close(self) -> None:
        """Frees the sessions."""
        self._prefix.close()
        self._score.close()

    def _inputs(self, batch: RaggedBatch) -> dict[str, Array]:
        pieces = [cast(tuple[HostKV, ...], pieces) for pieces in batch.prefixes]
        if self._for_gpu:
            made = rectangle(batch)
            rows = (
                np.concatenate(made.embeddings)
                if made.embeddings
                else np.zeros((1, self._hidden), np.float32)
            )
            named = made.inputs(made.shape) | {"embeddings": rows}
            return named | _past(pieces, made.past_lengths, self._widths)
        packed = pack(batch)
        return _named(packed, self._hidden) | _past(pieces, packed.past_lengths, self._widths)


class OnnxRuntimeEncodingBackend:
    """The `encode` graph of an item encoder bundle on the CPU. Implements `EncodingBackend`."""

    def __init__(self, bundle: Bundle, config: EngineConfig | None = None) -> None:
        self._encode = _Session(bundle, "encode", config or EngineConfig())

    def encode(self, runs: Sequence[NDArray[np.int64]]) -> NDArray[np.floating]:
        """See `EncodingBackend.encode`. Runs are padded to the longest."""
        return self._encode.run(dict(padded_texts(runs).arrays()))[0]

    def launch(self, runs: Sequence[NDArray[np.int64]]) -> Launched[np.floating]:
        """See `EncodingBackend.launch`. Nothing goes on beside it on a CPU."""
        tokens = self.encode(runs)
        return Launched(lambda: tokens, done=True)

    def close(self) -> None:
        """Frees the session."""
        self._encode.close()


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
        self._names = {value.name for value in session.get_inputs()}
        self._outputs = [output.name for output in graph.outputs]
        lacking = set(self._outputs) - {value.name for value in session.get_outputs()}
        if lacking:
            raise BundleError(f"{graph.file} lacks the outputs {sorted(lacking)} of its role {role!r}")

    def of_role(self, bundle: Bundle, role: Role) -> "_Session | None":
        """The same loaded graph in another role, if it has that."""
        if bundle.graph(role).file != self._file:
            return None
        return _Session(bundle, role, self._config, shared=self)

    def run(self, inputs: dict[str, Array]) -> list[NDArray[np.float32]]:
        assert self._session is not None, "closed"
        try:
            return cast(
                list[NDArray[np.float32]],
                self._session.run(self._outputs, {name: inputs[name] for name in self._names}),
            )
        except Exception as error:  # onnxruntime's exception classes share no other base
            raise BackendError(f"ONNX Runtime failed: {error}") from error

    def close(self) -> None:
        self._session = None


def _has_byte_products() -> bool:
    """Whether the processor multiplies bytes and adds the products in 32 bits; where it cannot be known, no."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(name in flags for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


def _needs_packing(bundle: Bundle) -> bool:
    """Unpacked, MatMulNBits would not round its inputs: other maths than the one that was proven, and slower."""
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


def _named(packed: PackedInputs, hidden: int) -> dict[str, Array]:
    # A graph that takes embeddings gathers row 0 even for text, so there is always one.
    embeddings = np.zeros((1, hidden), np.float32) if packed.embeddings is None else packed.embeddings
    return {
        "input_ids": packed.input_ids,
        "position_ids": packed.position_ids,
        "slots": packed.slots,
        "token_slots": packed.token_slots,
        "past_lengths": packed.past_lengths,
        "last_tokens": packed.last_tokens,
        "embeddings": embeddings,
        "embedding_rows": packed.embedding_rows,
    }


def _past(
    prefixes: Sequence[tuple[HostKV, ...]], lengths: NDArray[np.int64], widths: Sequence[LayerKV]
) -> dict[str, Array]:
    """Each layer's past keys and values [prefixes, kv_heads, past, head_dim], padded at the end."""
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
