"""Table of the layouts that the graphs of a target take."""

from collections.abc import Callable
from functools import partial

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm, Layout
from rankport.runtime.backends.layouts.packed import pack
from rankport.runtime.backends.layouts.rectangle import ROW_LENGTHS, rectangle
from rankport.runtime.bundle.manifest import GraphSpec

LayOut = Callable[[PrefixBatch], Layout]


def layout_of(score: GraphSpec, embeddings: EmbeddingsForm) -> LayOut:
    """Finds how a batch is laid out for a graph that scores, and for that of its prefixes."""
    if score.target != "onnx-cuda":
        return partial(pack, embeddings=embeddings)
    by_length = any(value.name == ROW_LENGTHS for value in score.inputs)
    return partial(rectangle, embeddings=embeddings, by_length=by_length)
