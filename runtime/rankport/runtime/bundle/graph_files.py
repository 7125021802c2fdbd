"""Reading of ONNX graphs without parsing them: the files they would make a runtime open, and their nodes.

Owns a walk over the protobuf wire format, just deep enough to meet every tensor; it needs neither onnx nor protobuf's
generated classes, and skips tensor bytes unread. Field numbers are those of onnx.proto.
"""

import mmap
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.bundle import Bundle

_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2  # of an entry, a pair of strings
_NAME, _OPERATOR, _DOMAIN = 3, 4, 7  # of a node
_Found = TypeVar("_Found")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; groups are not in ONNX
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}


def check_graph_files(bundle: Bundle, name: str) -> None:
    """Checks, before a runtime opens the graph `name`, that its external tensors lie in listed files only.

    Raises:
        BundleError: the graph points at another file, or is no ONNX model.
    """
    external_files(bundle, name)


def external_files(bundle: Bundle, name: str) -> set[str]:
    """Returns the bundle's files in which the graph `name` keeps external tensors; raises as `check_graph_files`."""
    listed = {entry.path for entry in bundle.manifest.files}
    targets = set()
    for location in external_locations(bundle.file(name)):
        target = posixpath.join(posixpath.dirname(name), location)
        if target not in listed:
            raise BundleError(
                f"{bundle.path}: {name!r} keeps tensors in {location!r}, which is not among the bundle's files"
            )
        targets.add(target)
    return targets


@dataclass(frozen=True, slots=True)
class GraphNode:
    """Node of a graph, or of a graph within it."""

    operator: str
    name: str
    domain: str  # "" of the ONNX standard


def graph_nodes(graph: Path) -> list[GraphNode]:
    """Yields every node, those of one graph in order. Raises `BundleError` if it is no ONNX model."""
    return _read(graph, _nodes)


def external_locations(graph: Path) -> set[str]:
    """Reads the `location` of every external tensor, as the graph spells it; raises as `graph_nodes`."""
    return set(_read(graph, _locations))


def _read(graph: Path, walk: Callable[[memoryview], Iterator[_Found]]) -> list[_Found]:
    try:
        with (
            graph.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as model,
        ):
            return list(walk(model))
    except (ValueError, IndexError) as error:
        raise BundleError(f"{graph}: not an ONNX model: {error}") from None


def _locations(model: memoryview) -> Iterator[str]:
    for kind, start, end in _messages(model):
        if kind == "entry":
            yield from _location(model, start, end)


def _nodes(model: memoryview) -> Iterator[GraphNode]:
    for kind, start, end in _messages(model):
        if kind == "node":
            texts = {
                number: bytes(model[first:last]).decode(errors="replace")
                for number, first, last in _submessages(model, start, end)
                if number in (_NAME, _OPERATOR, _DOMAIN)
            }
            yield GraphNode(texts.get(_OPERATOR, ""), texts.get(_NAME, ""), texts.get(_DOMAIN, ""))


def _messages(model: memoryview) -> Iterator[tuple[str, int, int]]:
    """Yields kind, start and end of every message on the way to a tensor."""
    # A stack instead of recursion: how deep graphs nest is the file's choice.
    pending = [("model", 0, len(model))]
    while pending:
        kind, start, end = pending.pop()
        yield kind, start, end
        if kind == "entry":
            continue
        children = [
            (child, first, last)
            for number, first, last in _submessages(model, start, end)
            if (child := _CHILDREN[kind].get(number)) is not None
        ]
        pending += reversed(children)


def _location(model: memoryview, start: int, end: int) -> Iterator[str]:
    # The last of a repeated field counts, and readers may disagree: take all values if any key fits.
    strings = [(number, bytes(model[first:last])) for number, first, last in _submessages(model, start, end)]
    if (_KEY, b"location") in strings:
        yield from (value.decode() for number, value in strings if number == _VALUE)


def _submessages(model: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yields field number, start and end of each length-delimited field between `start` and `end`."""
    position = start
    while position < end:
        tag, position = _varint(model, position, end)
        wire_type = tag & 7
        if wire_type == _VARINT:
            _, position = _varint(model, position, end)
        elif wire_type == _BYTES:
            length, position = _varint(model, position, end)
            if length > end - position:
                raise ValueError(f"field of {length} bytes at byte {position} runs over its end")
            yield tag >> 3, position, position + length
            position += length
        elif wire_type in _FIXED_SIZES:
            position += _FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"wire type {wire_type} before byte {position}")
    if position != end:
        raise ValueError(f"a field ends at byte {position}, its message at {end}")


def _varint(model: memoryview, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 64:
        byte = model[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError(f"a number does not end before byte {position}")
