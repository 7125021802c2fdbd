"""The plan of an item encoder: prompt, limits, the tokens that it makes, and its one graph."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.item_encoder.limits import item_encoder_limits
from rankport.exporters.kinds.item_encoder.module import EncoderModule, export_encode_graph
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.output import output_form
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt, check_prompt_name, resolve_prompt
from rankport.exporters.options.stated_prompt import chat_template_file
from rankport.protos.errors import InvalidRequest
from rankport.runtime.bundle.manifest import Embedding, ModelShape, Precision, Target


def check_item_encoder_prompt(checkpoint: Path, options: ItemEncoderOptions) -> None:
    """Raises InvalidRequest for a prompt that is neither file nor preset."""
    check_prompt_name(options.prompt)


def item_encoder_prompt(source: Checkpoint, options: ItemEncoderOptions) -> ResolvedPrompt:
    """Takes the prompt that is named, which has an item part alone, or makes one of the bare item.

    A chat template is not used: embedding models that carry one read bare texts. The manifest notes it.
    """
    resolved = resolve_prompt(options.prompt, source.tokenizer_file)
    if resolved.prompt.prefix:
        raise InvalidRequest(f"{options.prompt}: an item encoder has no prefix: leave [[prefix]] out")
    template = chat_template_file(source.path)
    if options.prompt is not None or template is None:
        return resolved
    note = f"prompt: the chat template of {template.name} is not used: an item encoder reads bare texts"
    return replace(resolved, notes=(note,))


def plan_item_encoder(source: Checkpoint, prompt: ResolvedPrompt, options: ItemEncoderOptions) -> ExportPlan:
    """Plans an item encoder. Raises CheckpointError or InvalidRequest for what cannot be exported."""
    embedding = output_form(source, options)
    return ExportPlan(
        shape=ModelShape(hidden_size=source.hidden_size, vocab_size=source.vocab_size, layers=[]),
        limits=item_encoder_limits(source, options),
        embedding=embedding,
        graphs=partial(_graphs, embedding),
    )


def _graphs(
    embedding: Embedding, source: Checkpoint, target: Target, precision: Precision
) -> dict[str, RoleGraph]:
    module = EncoderModule(source.model, embedding)
    graph = export_encode_graph(module, source.hidden_size, target, precision)
    return {"encode": RoleGraph(graph, {"encode": ("embeddings",)})}
