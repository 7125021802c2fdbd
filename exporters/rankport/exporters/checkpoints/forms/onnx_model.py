"""A folder with an ONNX graph as a model: transformers' forward by name, computed by the graph.

Owns what the graph's inputs and outputs must be for a head. Its config is read as any other; no weight is taken apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import transformers
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from rankport.exporters.checkpoints.config.positions import unused_positions
from rankport.exporters.checkpoints.forms.folder import CheckpointFolder, Head, LoadedModel, config_facts
from rankport.exporters.checkpoints.forms.onnx_file import GRAPH, GraphValue, OnnxTensors
from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.graphs.imported import ImportedGraph
from rankport.protos.errors import BackendError, CheckpointError

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
HIDDEN, LOGITS = ("last_hidden_state", "token_embeddings"), ("logits",)
EMBEDDING = "sentence_embedding"
"""Output of a graph of sentence-transformers beside its hidden states: what they are pooled to."""
_OUTPUTS: Mapping[Head, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "none": (HIDDEN, "feature-extraction"),
        "classification_head": (LOGITS, "text-classification"),
        "token_head": (LOGITS, "token-classification"),
    }
)
"""Outputs that a head is read from, and the task of optimum that gives them."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Count of token ids, in the place of a table of embeddings."""

    num_embeddings: int


class OnnxModel(nn.Module):
    """Model of transformers whose forward is a graph: token ids, mask and types in, hidden states or logits out."""

    def __init__(
        self,
        config: transformers.PreTrainedConfig,
        graph: ImportedGraph,
        inputs: Sequence[str],
        unused_positions: int,
        gives_embeddings: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.graph = config, graph
        self.inputs = tuple(inputs)
        self.unused_positions = unused_positions  # see `config.positions`
        self.gives_embeddings = gives_embeddings  # beside hidden states, of which a graph may have both

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> BaseModelOutput | SequenceClassifierOutput:
        """Computes the graph. Without a mask all tokens count, without types all are of the first text."""
        rows = self.graph(self._given(input_ids, attention_mask, token_type_ids))
        if self.graph.output in LOGITS:
            return SequenceClassifierOutput(logits=rows)
        return BaseModelOutput(last_hidden_state=rows)

    def own_embedding(self, input_ids: Tensor) -> Tensor:
        """Computes the graph's own embeddings of unpadded texts [items, tokens], where it gives some. [items, width]"""
        arrays = {name: value.numpy() for name, value in self._given(input_ids, None, None).items()}
        return torch.from_numpy(self.graph.runtime.run(EMBEDDING, arrays))

    def _given(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None
    ) -> dict[str, Tensor]:
        given = {
            "input_ids": input_ids,
            "attention_mask": torch.ones_like(input_ids) if attention_mask is None else attention_mask,
            "token_type_ids": torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids,
        }
        return {name: given[name] for name in self.inputs}

    def get_input_embeddings(self) -> Vocabulary:
        """Tells the size of the vocabulary."""
        return Vocabulary(int(self.config.get_text_config().vocab_size))

    def get_output_embeddings(self) -> None:
        """Returns None: no head of it predicts tokens."""


def matches(folder: CheckpointFolder) -> bool:
    """Takes a folder whose weights are a graph."""
    return isinstance(folder.tensors, OnnxTensors)


def load(folder: CheckpointFolder, head: Head) -> LoadedModel:
    """Raises CheckpointError for an input, an output or a shape that the head's kinds do not know, by name."""
    tensors = folder.tensors
    assert isinstance(tensors, OnnxTensors)
    if folder.quantization_method is not None:
        raise CheckpointError(
            f"config.json: quantization {folder.quantization_method!r} beside {GRAPH} is not supported: export the "
            "original checkpoint"
        )
    inputs = _checked_inputs(tensors)
    output = _output_of(tensors, head)
    config = config_facts(folder)  # the graph is the maths
    width = _checked_width(tensors.outputs[output], output, config, head)
    try:
        graph = ImportedGraph(tensors.file, output, width, rows_are_tokens=head != "classification_head")
    except BackendError as error:
        raise CheckpointError(str(error)) from error
    unused = unused_positions(skeleton(config, "none"))
    pooled = head == "none" and EMBEDDING in tensors.outputs
    model = OnnxModel(config, graph, inputs, unused, pooled).eval()
    left = [name for name in tensors.outputs if name != output and not (pooled and name == EMBEDDING)]
    notes = (
        f"imported: {GRAPH} as it was given, its output {output}",
        *(f"left out: output {name} of {GRAPH}" for name in left),
    )
    return LoadedModel(model, None, notes, tensors.parameters)


def stated_head(tensors: OnnxTensors, head: Head) -> Head:
    """Corrects the head that a class has by its name: a graph without logits has none."""
    return head if head == "none" or LOGITS[0] in tensors.outputs else "none"


def _checked_inputs(tensors: OnnxTensors) -> tuple[str, ...]:
    for name, value in tensors.inputs.items():
        if name not in _INPUTS:
            raise CheckpointError(
                f"{tensors.file} reads the input {name!r}: what is imported reads {', '.join(_INPUTS)} alone; export "
                "the original checkpoint"
            )
        if value.dtype != "INT64":
            raise CheckpointError(f"{tensors.file}: input {name!r} is {value.dtype}, must be INT64")
        if value.shape is None or len(value.shape) != 2 or any(size is not None for size in value.shape):
            raise CheckpointError(
                f"{tensors.file}: input {name!r} has the shape {value.shape}, must be [items, tokens], both open: "
                "export it again with dynamic axes"
            )
    for name in _INPUTS[:2]:
        if name not in tensors.inputs:
            raise CheckpointError(
                f"{tensors.file} does not read {name!r}, without which texts cannot share a pass"
            )
    return tuple(tensors.inputs)


def _output_of(tensors: OnnxTensors, head: Head) -> str:
    """Finds the output that the head is read from. Raises CheckpointError naming what is missing."""
    if head not in _OUTPUTS:
        raise CheckpointError(
            f"{tensors.file}: a graph is imported for kinds that read texts, and {head} is no head of theirs: export "
            "the original checkpoint"
        )
    names, task = _OUTPUTS[head]
    output = next((name for name in names if name in tensors.outputs), None)
    if output is None:
        wanted = "head" if names is LOGITS else "hidden states"
        raise CheckpointError(
            f"{tensors.file} has no {wanted}: its outputs are {', '.join(tensors.outputs)}, and {' or '.join(names)} "
            f"is read: export it again by `optimum-cli export onnx --task {task}`, or give the original checkpoint"
        )
    return output


def _checked_width(value: GraphValue, name: str, config: transformers.PreTrainedConfig, head: Head) -> int:
    rank = 2 if head == "classification_head" else 3
    stated = int(config.get_text_config().hidden_size) if head == "none" else int(config.num_labels or 0)
    axes = "[items, labels]" if rank == 2 else "[items, tokens, width]"
    if value.dtype != "FLOAT" or value.shape is None or len(value.shape) != rank:
        raise CheckpointError(
            f"{GRAPH}: output {name!r} is {value.dtype} of shape {value.shape}, must be FLOAT {axes}: export it again "
            "in fp32"
        )
    if value.shape[-1] not in (None, stated):
        raise CheckpointError(
            f"{GRAPH}: output {name!r} has the width {value.shape[-1]}, config.json says {stated}: they are not of one "
            "model"
        )
    return stated
