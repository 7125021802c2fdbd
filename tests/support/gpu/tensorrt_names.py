"""The names of TensorRT's API that our sources use, and which of them a module lacks."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rankport.runtime.backends.tensorrt.graph import DTYPE_NAMES

SOURCES = Path(__file__).parents[3] / "runtime" / "rankport" / "runtime" / "backends" / "tensorrt"

RECEIVERS = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "loaded_plan": "ICudaEngine",
    "_loaded_plan": "ICudaEngine",
    "ranges": "IOptimizationProfile",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "plan_runtime": "Runtime",
    "refitter": "Refitter",
    "refusal": "ParserError",
    "_runtime": "Runtime",
    "tensor": "ITensor",
    "weights_parser": "OnnxParserRefitter",
}
"""What our sources call objects of TensorRT's classes: every attribute read of one must be there."""


def names_used() -> set[str]:
    """`Class.attribute`, `Enum.MEMBER` or `Class.method(keyword)` of every use in the TensorRT modules."""
    files = sorted(SOURCES.glob("*.py"))
    found = {name for file in files for name in _names(ast.parse(file.read_text()))}
    return {name.removesuffix(".items") for name in found} | {
        f"DataType.{name}" for name in DTYPE_NAMES.values()
    }


def _names(tree: ast.AST) -> Iterator[str]:
    nodes = list(ast.walk(tree))
    aliases = {
        target.id: path
        for node in nodes
        if isinstance(node, ast.Assign) and (path := _api_path(node.value, {})) is not None
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in nodes:
        if isinstance(node, ast.Call) and (path := _name(node.func, aliases)):
            yield from (f"{path}({keyword.arg})" for keyword in node.keywords)
        elif path := _name(node, aliases):
            yield path


def _name(node: ast.AST, aliases: dict[str, str]) -> str:
    """Of the API, by the module or by what our sources call its objects; "" for anything else."""
    if not isinstance(node, ast.Attribute):
        return ""
    path = _api_path(node, aliases)
    if path is None and (owner := _last_name(node.value)) in RECEIVERS:
        return f"{RECEIVERS[owner]}.{node.attr}"
    return path or ""


def _api_path(node: ast.AST, aliases: dict[str, str]) -> str | None:
    """`A.b` for `<anything>.api.A.b`; "" for the module itself; None for anything else."""
    if isinstance(node, ast.Name):
        return "" if node.id == "api" else aliases.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    if node.attr == "api":
        return ""
    path = _api_path(node.value, aliases)
    return None if path is None else f"{path}.{node.attr}".strip(".")


def _last_name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


_LOOK = """
import functools, importlib, json, sys
names, module = json.load(sys.stdin), importlib.import_module(sys.argv[1])
def has(name):
    path, _, keyword = name.rstrip(")").partition("(")
    try:
        found = functools.reduce(getattr, path.split("."), module)
    except AttributeError:
        return False
    return not keyword or f" {keyword}: " in found.__doc__
print(json.dumps([module.__version__, [name for name in names if not has(name)]]))
"""


def lacking(module: str, names: set[str], *paths: Path) -> tuple[str, set[str]]:
    """Version of a module, loaded in a process of its own with `paths` in front, and the names that it lacks."""
    code = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}{_LOOK}"
    done = subprocess.run(
        [sys.executable, "-c", code, module],
        input=json.dumps(sorted(names)),
        capture_output=True,
        text=True,
        check=True,
    )
    version, missing = json.loads(done.stdout.splitlines()[-1])
    return version, set(missing)


_STUBS = {
    "libnvinfer": "void *createInferBuilder_INTERNAL(void *l, int v) { return 0; }"
    "void *createInferRefitter_INTERNAL(void *e, void *l, int v) { return 0; }"
    "void *createInferRuntime_INTERNAL(void *l, int v) { return 0; }"
    "void *getBuilderPluginRegistry(int c) { return 0; } void *getPluginRegistry(void) { return 0; }",
    "libnvinfer_plugin": "_Bool initLibNvInferPlugins(void *l, const char *n) { return 0; }",
    "libnvonnxparser": "void *createNvOnnxParser_INTERNAL(void *n, void *l, int v) { return 0; }"
    "void *createNvOnnxParserRefitter_INTERNAL(void *r, void *l, int v) { return 0; }"
    "int getNvOnnxParserVersion(void) { return 0; }",
}
"""Functions that TensorRT's bindings look for in its libraries. None of ours makes anything."""


def write_stub_libraries(folder: Path) -> Path:
    """A package `tensorrt_libs`, which loads libraries that let the bindings be imported; needs gcc."""
    package = folder / "tensorrt_libs"
    package.mkdir()
    for name, source in _STUBS.items():
        library = f"{name}.so.11"
        command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{library}", "-o", library]
        subprocess.run(command, input=source, text=True, cwd=package, check=True)
    (package / "__init__.py").write_text(
        "import ctypes, pathlib\n"
        "for library in sorted(pathlib.Path(__file__).parent.glob('*.so.*')):\n"
        "    ctypes.CDLL(str(library))\n"
    )
    return folder
