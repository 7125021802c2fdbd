"""Table of the layouts that the graphs of a target take."""

from collections.abc import Callable
from functools import partial

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm, Layout
from rankport.runtime.backends.layouts.packed import pack
from rankport.runtime.backends.layouts.rectangle import rectangle
from rankport.runtime.bundle.manifest import Target

LayOut = Callable[[PrefixBatch], Layout]


def layout_of(target: Target, embeddings: EmbeddingsForm) -> LayOut:
    """Finds how a batch is laid out for a target."""
    lay_out = rectangle if target == "onnx-cuda" else pack
    return partial(lay_out, embeddings=embeddings)
