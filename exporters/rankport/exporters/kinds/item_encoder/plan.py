"""The plan of an item encoder: limits, the tokens that it makes, and its one graph."""

from functools import partial

from rankport.exporters.checkpoints.checkpoint import Checkpoint
from rankport.exporters.checkpoints.sentence_transformers.folder import read_encoder_folder
from rankport.exporters.checkpoints.states import states_width
from rankport.exporters.graphs.role_graph import RoleGraph
from rankport.exporters.kinds.item_encoder.limits import item_encoder_limits
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.output import output_form
from rankport.exporters.kinds.item_encoder.prompt import reads_queries, skipped_tokens
from rankport.exporters.kinds.texts.encoder_module import encoder_module
from rankport.exporters.kinds.texts.graph import TextGraph, export_text_graph
from rankport.exporters.kinds.work import ExportPlan
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.runtime.bundle.manifest import Embedding, ModelShape, Precision, Target


def plan_item_encoder(source: Checkpoint, prompt: ResolvedPrompt, options: ItemEncoderOptions) -> ExportPlan:
    """Plans an item encoder. Raises CheckpointError or InvalidRequest for what cannot be exported."""
    embedding = output_form(source, options, skipped_tokens(source, prompt, options))
    width = states_width(source.model, source.hidden_size)
    return ExportPlan(
        shape=ModelShape(hidden_size=width, vocab_size=source.vocab_size, layers=[]),
        limits=item_encoder_limits(source, options),
        embedding=embedding,
        queries="as-items" if reads_queries(source, prompt, options) else None,
        overrides=overrides(source, options),
        graphs=partial(_graphs, embedding),
    )


def overrides(source: Checkpoint, options: ItemEncoderOptions) -> tuple[str, ...]:
    """Names the options that may say otherwise than a sentence-transformers folder; none of another checkpoint."""
    if read_encoder_folder(source.path) is None:
        return ()
    names = ("prompt", "pooling", "tokens", "normalize", "max_item_tokens")
    return tuple(name for name in names if getattr(options, name) is not None)


def _graphs(
    embedding: Embedding, source: Checkpoint, target: Target, precision: Precision
) -> dict[str, RoleGraph]:
    module, row = encoder_module(source, embedding), (embedding.tokens, embedding.hidden_size)
    graph = export_text_graph(
        TextGraph(module, source.model, "embeddings", ("items", *row)), target, precision
    )
    return {"encode": RoleGraph(graph, {"encode": ("embeddings",)})}
