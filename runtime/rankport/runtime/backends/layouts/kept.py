"""`KeptTensor`: what a prefix keeps of each of its tokens, as the `prefix` graph of a bundle lists it."""

from dataclasses import dataclass
from typing import Self

from rankport.protos.errors import BundleError
from rankport.runtime.bundle.manifest import DType, GraphSpec
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
        """Lists the outputs of a `prefix` graph, in its order. Raises BundleError for one that is no such tensor."""
        kept = []
        for output in prefix.outputs:
            match output.shape:
                case [_, int(heads), _, int(width)]:
                    past = output.name.replace("new_", "past_", 1)
                    kept.append(cls(output.name, past, heads, width, output.dtype))
                case _:
                    raise BundleError(
                        f"{MANIFEST_NAME}: graphs: output {output.name!r} of {prefix.file!r} has shape {output.shape}: "
                        "what a prefix keeps is [prefixes, heads, tokens, width], heads and width as numbers"
                    )
        return tuple(kept)
