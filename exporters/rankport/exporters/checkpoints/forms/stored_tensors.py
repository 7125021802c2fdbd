"""The tensors of a checkpoint folder: one safetensors file or the shards of an index, read one by one.

Owns what is stored where. What a tensor is for, the loaders know.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rankport.exporters.checkpoints.config.heads import head_name
from rankport.protos.errors import CheckpointError
from rankport.protos.files.json_text import json_of_text
from rankport.protos.reasons import reason_of

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_OWN_READERS = frozenset({"crf.safetensors"})  # tensors of a head, which its kind reads

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class StoredTensors:
    """Every tensor of the files given, by name. Files are memory-mapped: a tensor costs memory once it is touched."""

    def __init__(self, files: tuple[Path, ...], notes: tuple[str, ...] = ()) -> None:
        """Raises CheckpointError for a file that is no safetensors, or a name that two files hold.

        `notes` are of the index that names the files.
        """
        self.files = files
        self._notes = notes
        self._open: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, str] = {}
        self.metadata: dict[str, str] = {}  # of the files' headers
        for file in files:
            self._list(file)

    @classmethod
    def open(cls, folder: Path) -> "StoredTensors":
        """Opens the weights of a checkpoint folder: the shards that its index names, or model.safetensors.

        Raises CheckpointError naming the missing file, shard or tensor.
        """
        if (folder / INDEX).is_file():
            return cls._from_index(folder)
        if not (folder / WEIGHTS).is_file():
            raise CheckpointError(
                f"checkpoint {str(folder)!r} has no {WEIGHTS} and no {INDEX}: {_instead(folder)}"
            )
        return cls((folder / WEIGHTS,))

    @classmethod
    def _from_index(cls, folder: Path) -> "StoredTensors":
        try:
            places = json_of_text((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
            shards = sorted(set(places.values()))
            outside = next((shard for shard in shards if Path(shard).name != shard), None)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise CheckpointError(
                f"{folder / INDEX}: no weight_map of tensor names to file names ({error!r})"
            ) from error
        if outside is not None:
            raise CheckpointError(f"{folder / INDEX}: shard {outside!r} lies outside the folder")
        if (folder / WEIGHTS).is_file() and WEIGHTS not in shards:
            raise CheckpointError(
                f"{str(folder)!r} has {WEIGHTS} and {INDEX}, which names other files: transformers reads the former "
                "alone; delete the one that is stale, with its shards"
            )
        missing = next((shard for shard in shards if not (folder / shard).is_file()), None)
        if missing is not None:
            raise CheckpointError(
                f"{folder / INDEX} names shard {missing!r}, which is not there: copy it again"
            )
        files = tuple(folder / shard for shard in shards)
        stored = cls(files)
        absent = [name for name in places if name not in stored]
        # A head that is tied, or that a body leaves behind, needs no tensor; of any other the loaders find none.
        needed = next((name for name in absent if head_name(name) is None), None)
        if needed is not None:
            raise CheckpointError(
                f"{folder / INDEX} names tensor {needed!r}, which {places[needed]} lacks: copy that file again"
            )
        return cls(files, (f"{INDEX} names {', '.join(absent)}, which no file holds",)) if absent else stored

    def notes(self) -> tuple[str, ...]:
        """Notes names of the index that no file holds, and files of weights that lie beside those that are read."""
        read = {file.name for file in self.files} | _OWN_READERS
        beside = sorted({file.name for file in self.files[0].parent.glob("*.safetensors")} - read)
        why = INDEX if (self.files[0].parent / INDEX).is_file() else WEIGHTS
        unread = (f"not read: {', '.join(beside)}, beside {why}",) if beside else ()
        return self._notes + unread

    def __contains__(self, name: object) -> bool:
        return name in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the files."""
        return tuple(self._shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        """Tells a tensor's shape without reading it."""
        return self._shapes[name]

    def dtype(self, name: str) -> torch.dtype:
        """Tells a tensor's type without reading it. Raises CheckpointError for a type that torch lacks."""
        stored = self._dtypes[name]
        if stored not in _DTYPES:
            raise CheckpointError(f"tensor {name!r} is stored as {stored}, which is not supported")
        return _DTYPES[stored]

    def read(self, name: str) -> Tensor:
        """Reads the tensor as stored, on the CPU, memory-mapped."""
        tensor: Tensor = self._open[name].get_tensor(name)
        return tensor

    def main_dtype(self) -> str:
        """Finds the dtype that most stored values have, in torch's naming; packed integers count only where all are."""
        counts: dict[str, int] = {}
        floats = [name for name in self._shapes if self._dtypes[name].startswith(("F", "BF"))]
        for name in floats or self._shapes:
            shape = self._shapes[name]
            size = torch.Size(shape).numel()
            counts[self._dtypes[name]] = counts.get(self._dtypes[name], 0) + size
        most = max(counts, key=lambda kind: counts[kind])
        return str(_DTYPES[most]).removeprefix("torch.") if most in _DTYPES else most.lower()

    def _list(self, file: Path) -> None:
        try:
            handle: Any = safe_open(file, framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"cannot load {file}: {reason_of(error)}: the file is damaged, copy it again"
            ) from error
        for name in handle.keys():  # noqa: SIM118 - safe_open is no mapping
            if name in self._shapes:
                raise CheckpointError(f"tensor {name!r} is in two files of {str(file.parent)!r}")
            part = handle.get_slice(name)
            self._shapes[name] = tuple(part.get_shape())
            self._dtypes[name] = str(part.get_dtype())
            self._open[name] = handle
        self.metadata |= handle.metadata() or {}


def of_llama_cpp(files: Iterable[Path]) -> str:
    """Says what to do where one of the files is llama.cpp's; "" where none is."""
    own = next((file for file in files if file.suffix == ".gguf"), None)
    return f"{own.name} is llama.cpp's: give the checkpoint that it was converted from" if own else ""


def _instead(folder: Path) -> str:
    """Says what to do with a folder without weights in safetensors, by the files that are there."""
    files = sorted(folder.glob("*"))
    other = next((file.name for file in files if file.suffix == ".safetensors"), None)
    if other is not None:
        return f"if {other!r} holds them all, rename it to {WEIGHTS}"
    pickled = next((file.name for file in files if file.suffix in _PICKLES), None)
    if pickled is not None:
        return (
            f"pickled weights ({pickled}) are never loaded, convert them with "
            "save_pretrained(safe_serialization=True)"
        )
    return of_llama_cpp(files) or "copy its weights here too"
