"""The plan of a classifier: labels, head, limits, and its one graph."""

from functools import partial

import torch
from torch import Tensor, nn

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.states import states_width
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.classifier.head import resolve_head
from rankport.exporters.kinds.classifier.limits import classifier_limit
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.labels.pooled_head import pooled_form
from rankport.exporters.kinds.texts.encoder_module import EncoderModule, encoder_module
from rankport.exporters.kinds.texts.graph import TextGraph, export_text_graph
from rankport.exporters.kinds.texts.head_module import head_module
from rankport.exporters.kinds.texts.pairs.frame import PairFrame, inputs_of
from rankport.exporters.kinds.texts.seq2seq import require_read_again
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.runtime.bundle.manifest import ClassHead, Limits, ModelShape, Pair, Precision, Target

_ROLE = "classify"


def plan_classifier(source: Checkpoint, prompt: ResolvedPrompt, options: ClassifierOptions) -> ExportPlan:
    """Plans a classifier. Raises CheckpointError or InvalidRequest for what cannot be exported."""
    labels, head = resolve_head(source, options.labels)
    if source.head == "classification_head":
        require_read_again(source, prompt)
    width = source.hidden_size if head.pooling is None else states_width(source.model, source.hidden_size)
    most, paired = classifier_limit(source, options), options.texts == "pair"
    return ExportPlan(
        shape=ModelShape(hidden_size=width, vocab_size=source.vocab_size, layers=[]),
        limits=Limits(max_prefix_tokens=most if paired else 0, max_item_tokens=most),
        pair=Pair(max_tokens=most, cut=options.cut) if paired else None,
        labels=labels,
        head=head,
        overrides=_overrides(options),
        graphs=partial(_graphs, head, len(labels.names), classifier_inputs(source, paired=paired)),
    )


def _overrides(options: ClassifierOptions) -> tuple[str, ...]:
    """Names the options that say otherwise than the checkpoint's folder and tokenizer."""
    names = ("labels", "max_item_tokens", "max_pair_tokens", "prompt")
    return tuple(name for name in names if getattr(options, name) is not None)


def classifier_inputs(source: Checkpoint, *, paired: bool) -> tuple[str, ...]:
    """Lists the inputs of the graph: token types where two texts have some. Raises CheckpointError as `inputs_of`."""
    return inputs_of(source.model, typed=paired and PairFrame.of(source.tokenizer_file).typed)


class PooledHead(nn.Module):
    """(input_ids, attention_mask and, of some, token_type_ids: [items, tokens] int64) -> [items, labels] float32."""

    def __init__(self, encoder: EncoderModule) -> None:
        """Takes over an encoder of one token, whose values are the logits."""
        super().__init__()
        self.encoder = encoder

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Computes the logits of padded texts."""
        logits: Tensor = self.encoder(input_ids, attention_mask, token_type_ids)[:, 0]
        return logits.to(torch.float32)


def classifier_module(source: Checkpoint, head: ClassHead, outputs: int) -> nn.Module:
    """Makes the module of a checkpoint: the class's own head, or pooled states through the folder's Dense layers."""
    form = pooled_form(head, outputs)
    return head_module(source.model) if form is None else PooledHead(encoder_module(source, form))


def _graphs(
    head: ClassHead,
    outputs: int,
    inputs: tuple[str, ...],
    source: Checkpoint,
    target: Target,
    precision: Precision,
) -> dict[str, RoleGraph]:
    module = classifier_module(source, head, outputs)
    of = TextGraph(module, source.model, "logits", ("items", outputs), inputs)
    return {_ROLE: RoleGraph(export_text_graph(of, target, precision), {_ROLE: ("logits",)})}
