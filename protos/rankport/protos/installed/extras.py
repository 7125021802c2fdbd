"""Extras of the package: which of them brings a module that is not installed, and the error that says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rankport.protos.errors import MissingExtra

_EXTRAS = {
    "torch": "export",
    "transformers": "export",
    "safetensors": "export",
    "matplotlib": "export",
    "ml_dtypes": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "optimum": "export",
    "peft": "export",
    "requests": "export",
    "huggingface_hub": "export",
    "sentence_transformers": "sentence-transformers",
    "llguidance": "grammar",
    "onnxruntime": "runtime",
    "tokenizers": "runtime",
    "lmdb": "runtime",
    "pydantic": "runtime",
    "typing_extensions": "runtime",
    "grpc_health": "runtime",
    "grpc_reflection": "runtime",
    "typer": "runtime",
    "rich": "runtime",
    "starlette": "server",
    "uvicorn": "server",
    "h11": "server",
    "prometheus_client": "server",
    "opentelemetry": "tracing",
    "pyarrow": "parquet",
    "lance": "lance",
    "fsspec": "remote",
    "ray": "ray",
    "redis": "redis",
    "pandas": "tables",
    "cuda": "cuda",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
}
"""Extra of each module that one brings."""

CUDA_INSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'rankport[cuda]'"
"""Command that has ONNX Runtime with CUDA in the place of one without: both bring the same files, and take them."""


def is_installed(extra: str) -> bool:
    """Says whether all modules that an extra brings are there; imports none."""
    return all(find_spec(module) is not None for module, by in _EXTRAS.items() if by == extra)


@contextmanager
def extras_named(needed_by: str, extra: str | None = None) -> Iterator[None]:
    """Wraps an import: a module that is not installed, and that an extra brings, raises `MissingExtra`.

    That tells what the module is `needed_by`, and how to install it: by `extra`, or the first that brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module not in _EXTRAS or isinstance(error, MissingExtra):
            raise
        raise MissingExtra(
            f'{needed_by} needs {module}, which is not installed: pip install "rankport[{extra or _EXTRAS[module]}]"',
            name=module,
        ) from error
