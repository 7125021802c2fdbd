"""ONNX Runtime's sessions over a bundle's graphs on the CPU, and how they are set up."""

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rankport.protos.errors import BackendError, BundleError, Unavailable
from rankport.runtime.backends.contract import WeightsChanged
from rankport.runtime.backends.mapped_files import MappedFiles
from rankport.runtime.backends.ort.cores import count_cores, quota_cores
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.bundle.graph_files import external_files
from rankport.runtime.bundle.manifest import GraphSpec, Role
from rankport.runtime.config import EngineConfig

Array = NDArray[np.generic]


class Session:
    """One role of a graph, loaded; takes more inputs than the graph has and ignores what it does not read."""

    def __init__(
        self, bundle: Bundle, role: Role, config: EngineConfig, shared: "Session | None" = None
    ) -> None:
        graph = bundle.graph(role)
        self._mapped: MappedFiles = _mapped(bundle, graph) if shared is None else shared._mapped
        session = _open(bundle, graph, config) if shared is None else shared._session
        assert session is not None, "closed"
        self._mapped.check_opened()
        self._session: onnxruntime.InferenceSession | None = session
        self._file, self._config = graph.file, config
        self.input_names = frozenset(value.name for value in session.get_inputs())
        self._outputs = [output.name for output in graph.outputs]
        lacking = set(self._outputs) - {value.name for value in session.get_outputs()}
        if lacking:
            raise BundleError(f"{graph.file} lacks the outputs {sorted(lacking)} of its role {role!r}")

    def of_role(self, bundle: Bundle, role: Role) -> "Session | None":
        """Returns the loaded graph in another role, if it has that."""
        if bundle.graph(role).file != self._file:
            return None
        return Session(bundle, role, self._config, shared=self)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(self._outputs)

    def run(self, inputs: Mapping[str, Array]) -> list[NDArray[np.float32]]:
        if (session := self._session) is None:  # no engine is between the caller and a graph of plain arrays
            raise Unavailable("the model is closed; load the bundle again")
        self._check_files()
        try:
            outputs = session.run(self._outputs, {name: inputs[name] for name in self.input_names})
        except Exception as error:  # onnxruntime's exception classes share no other base
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        self._check_files()  # what was written meanwhile may be in the outputs
        return cast(list[NDArray[np.float32]], outputs)

    def bound(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> "BoundRun":
        """Binds memory that runs read and write, all outputs but one: it may be the same, and must outlive the runs."""
        assert self._session is not None, "closed"
        (left,) = (name for name in self._outputs if name not in outputs)
        return BoundRun(self._session, self.input_names - inputs.keys(), left, inputs, outputs)

    def run_bound(self, run: "BoundRun", inputs: Mapping[str, Array], output: NDArray[np.float32]) -> None:
        """Runs with the inputs that are left, into what is bound and into `output`, the one that is left."""
        self._check_files()
        try:
            run.run(inputs, output)
        except Exception as error:  # onnxruntime's exception classes share no other base
            raise BackendError(f"ONNX Runtime failed: {error}") from error
        self._check_files()  # what was written meanwhile may be in the outputs

    def _check_files(self) -> None:
        if told := self._mapped.changed():
            raise WeightsChanged(told)

    def close(self) -> None:
        self._session = None
        self._mapped.close()


class BoundRun:
    """A session whose inputs and outputs, but for some, lie in memory that the caller keeps."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        inputs_left: frozenset[str],
        output_left: str,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
    ) -> None:
        self._session, self._inputs_left, self._output_left = session, inputs_left, output_left
        self._binding = session.io_binding()
        for arrays, bind in ((inputs, self._binding.bind_input), (outputs, self._binding.bind_output)):
            for name, array in arrays.items():
                _bind(bind, name, array)

    def run(self, inputs: Mapping[str, Array], output: NDArray[np.float32]) -> None:
        """Runs; writes the output that is not bound."""
        for name in self._inputs_left:
            self._binding.bind_cpu_input(name, inputs[name])
        _bind(self._binding.bind_output, self._output_left, output)
        self._session.run_with_iobinding(self._binding)


def _bind(bind: Callable[..., None], name: str, array: Array) -> None:
    assert array.flags.c_contiguous
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def loaded_version() -> str:
    """Returns the version of the ONNX Runtime that this process has loaded."""
    return str(onnxruntime.__version__)


def _mapped(bundle: Bundle, graph: GraphSpec) -> MappedFiles:
    """Opens the files that the graph's session maps. Raises `BundleError` for one that the bundle does not list."""
    names = external_files(bundle, graph.file)
    return MappedFiles(bundle.path, [entry for entry in bundle.manifest.files if entry.path in names])


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


def threads_of_a_pass(config: EngineConfig) -> int:
    """Counts the threads that ONNX Runtime gives a pass, its caller's included; 0: all.

    Passes beside each other have a caller each, and the other threads in common.
    """
    cores = count_cores()
    threads = config.threads or min(quota_cores() or cores, cores)
    if config.instances == 1:
        return 0 if threads == cores and not config.threads else threads
    return max(threads - config.instances + 1, 1)


def _thread_options(config: EngineConfig) -> onnxruntime.SessionOptions:
    """Makes options of a session that has the threads of one pass."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads_of_a_pass(config)
    options.inter_op_num_threads = 1
    # Idle workers give the cores back to tokenization and the other graph as soon as a pass ends.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if options.intra_op_num_threads > count_cores():
        # Those that spin would keep the cores from those that work: with many a load would take minutes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _open(bundle: Bundle, graph: GraphSpec, config: EngineConfig) -> onnxruntime.InferenceSession:
    path = bundle.file(graph.file)
    options = _thread_options(config)
    options.log_severity_level = 4  # what fails is raised; a line beside it would be none of a log
    # Shapes differ from pass to pass: a cached memory plan per shape would only grow.
    options.enable_mem_pattern = False
    if not _has_byte_products():
        # Sums of unsigned by signed bytes would saturate: unsigned weights are exact, slower and a copy.
        options.add_session_config_entry("session.x64quantprecision", "1")
    low_bits = bundle.manifest.quantization is not None
    if graph.target == "tensorrt" or (low_bits and config.prepacking == "throughput"):
        # Weights that no product takes in low bits are then dequantized once, here, and not in each pass. Of graphs
        # for TensorRT fused Q/DQ pairs would round activations, or be no valid graph.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Left to itself it would round the inputs of a dequantized 4-bit product, for speed.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    if config.prepacking == "footprint" and not _needs_packing(bundle):
        options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception classes share no other base
        raise BundleError(f"ONNX Runtime cannot load {path.name}: {error}") from error
