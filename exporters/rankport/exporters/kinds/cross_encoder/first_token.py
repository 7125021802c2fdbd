"""Cross-encoders that answer by the first token that they write: encoder-decoders with an LM head, as monoT5."""

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.stated import StatedModel
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.cross_encoder.options import CrossEncoderOptions
from rankport.exporters.kinds.labels.label_head import label_head, readout_of
from rankport.exporters.kinds.labels.label_tokens import NamedLabels, labels_of_tokens
from rankport.exporters.kinds.texts.graph import TextGraph, export_text_graph
from rankport.exporters.kinds.texts.head_module import FirstStepModule
from rankport.exporters.kinds.texts.seq2seq import require_first_step
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.runtime.bundle.manifest import Labels, Precision, Target


def answers_by_token(source: Checkpoint | StatedModel) -> bool:
    """Tells whether a checkpoint is an encoder-decoder with an LM head."""
    return source.head == "seq2seq_lm_head"


def first_token_labels(source: Checkpoint, prompt: ResolvedPrompt, options: CrossEncoderOptions) -> Labels:
    """Takes the tokens that answer. Raises CheckpointError or InvalidRequest for some that cannot."""
    require_first_step(source)
    named = NamedLabels(options.labels, options.label_ids, options.positive)
    return labels_of_tokens(source, named, prompt.labels, prompt.tokenizer)


def first_token_graphs(
    labels: Labels, source: Checkpoint, target: Target, precision: Precision
) -> dict[str, RoleGraph]:
    """Traces the graph of role `score`: a text's first step, the label rows alone."""
    module = FirstStepModule(source.model, label_head(source.model, readout_of(labels)))
    of = TextGraph(module, source.model, "logits", ("items", len(labels.names)))
    with module.answering():
        return {"score": RoleGraph(export_text_graph(of, target, precision), {"score": ("logits",)})}
