"""Tensors that a prefix keeps, as a bundle's `prefix` graph lists them: of each of its tokens, and of it as a whole."""

from dataclasses import dataclass
from typing import Self

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.manifest import DType, GraphSpec, TensorSpec
from rankport.runtime.bundle.manifest_json import MANIFEST_NAME


@dataclass(frozen=True, slots=True)
class KeptTensor:
    """Keys or values of a layer, or last states: [prefixes, heads, tokens, width]."""

    new: str  # output that gives it
    past: str  # input that takes it
    heads: int
    width: int
    dtype: DType

    @classmethod
    def of(cls, prefix: GraphSpec) -> tuple[Self, ...]:
        """Lists those of a `prefix` graph, in its order. Raises BundleError for an output that is of no prefix."""
        kept = []
        for output in prefix.outputs:
            match output.shape:
                case [_, int(heads), str(), int(width)]:
                    kept.append(cls(output.name, _past_name(output), heads, width, output.dtype))
                case [str(), *sizes] if sizes and all(isinstance(size, int) for size in sizes):
                    continue
                case _:
                    raise BundleError(
                        f"{MANIFEST_NAME}: graphs: output {output.name!r} of {prefix.file!r} has shape {output.shape}: "
                        "what a prefix keeps is [prefixes, heads, tokens, width], heads and width as numbers, or, of a "
                        "recurrent layer, [prefixes, numbers]"
                    )
        return tuple(kept)


@dataclass(frozen=True, slots=True)
class KeptState:
    """State that a prefix as a whole ends in, of a recurrent layer: [prefixes, *shape]."""

    new: str  # output that gives it
    past: str  # input that takes it
    shape: tuple[int, ...]
    dtype: DType

    @classmethod
    def of(cls, prefix: GraphSpec) -> tuple[Self, ...]:
        """Lists those of a `prefix` graph, in its order."""
        kept = []
        for output in prefix.outputs:
            sizes = [size for size in output.shape if isinstance(size, int)]
            if sizes and len(sizes) == len(output.shape) - 1 and isinstance(output.shape[0], str):
                kept.append(cls(output.name, _past_name(output), tuple(sizes), output.dtype))
        return tuple(kept)


def _past_name(output: TensorSpec) -> str:
    return output.name.replace("new_", "past_", 1)
