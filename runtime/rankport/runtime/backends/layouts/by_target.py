"""Table of the layouts that the graphs of a target take."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rankport.runtime.backends.contract import PrefixBatch
from rankport.runtime.backends.layouts.layout import EmbeddingsForm, Layout
from rankport.runtime.backends.layouts.packed import pack, step_inputs
from rankport.runtime.backends.layouts.rectangle import ITEM_PLACES, ROW_LENGTHS, rectangle, step_rows
from rankport.runtime.bundle.manifest import GraphSpec

LayOut = Callable[[PrefixBatch], Layout]
LayOutStep = Callable[[NDArray[np.int64], NDArray[np.int64], int], dict[str, NDArray[np.generic]]]
"""Makes the inputs of a step of tokens [sequences] behind past lengths [sequences], padded to so many."""


def layout_of(score: GraphSpec, embeddings: EmbeddingsForm) -> LayOut:
    """Finds how a batch is laid out for a graph that scores, and for that of its prefixes."""
    if score.target != "onnx-cuda":
        return partial(pack, embeddings=embeddings)
    names = {value.name for value in score.inputs}
    return partial(
        rectangle, embeddings=embeddings, by_length=ROW_LENGTHS in names, by_item=ITEM_PLACES in names
    )


def step_layout_of(decode: GraphSpec) -> LayOutStep:
    """Finds how a step is laid out for a graph that decodes: a token of each sequence of a pass."""
    if decode.target != "onnx-cuda":
        return lambda tokens, lengths, _: step_inputs(tokens, lengths)
    names = {value.name for value in decode.inputs}

    def rows(
        tokens: NDArray[np.int64], lengths: NDArray[np.int64], room: int
    ) -> dict[str, NDArray[np.generic]]:
        arrays = step_rows(tokens, np.arange(len(tokens)), lengths, (len(tokens), room))
        return {name: array for name, array in arrays.items() if name in names}

    return rows
