"""The published layout of jina-reranker-v3: a Qwen3 body and a projector in one folder, which names a class of its own.

That class is code in the folder, which is never run. Owns what it computes, as far as the config does not say it:
prompt, markers, limits, and how blocks are joined. The prompt is that of its `rerank`, which gives no instruction.
"""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.manifest import DenseLayer
from rankport.runtime.bundle.manifest_json import explain
from rankport.runtime.bundle.sections.lists import ListSegment, ListTemplate

ARCHITECTURE: Final = "JinaForRanking"
FIELD: Final = "query"
_MAX_ITEMS, _MAX_ITEM_TOKENS, _MAX_QUERY_TOKENS = 125, 2048, 512
_OF_SLIDING_LAYERS = (8192, 1024)
"""Item and query of v3.5, which is told by its sliding-window layers."""
_SYSTEM = (
    "system\nYou are a search relevance expert who can determine a ranking of the passages based on how relevant they "
    "are to the query. If the query is a question, how relevant a passage is depends on how well it answers the "
    "question. If not, try to analyze the intent of the query and assess how well each passage satisfies the intent. "
    "If an instruction is provided, you should follow the instruction when determining the ranking."
)
_ASKED = " passages, each indicated by a numerical identifier. Rank the passages based on their relevance to query: "


def _text(text: str) -> ListSegment:
    return ListSegment(text=text)


def _special(name: str) -> ListSegment:
    return ListSegment(special=[name])


def jina_template() -> ListTemplate:
    """Makes the prompt of a block."""
    return ListTemplate(
        head=[
            _special("<|im_start|>"),
            _text(_SYSTEM),
            _special("<|im_end|>"),
            _text("\n"),
            _special("<|im_start|>"),
            _text("user\nI will provide you with "),
            ListSegment(count=True),
            _text(_ASKED),
            ListSegment(field=FIELD),
            _text("\n"),
        ],
        item=[
            _text('<passage id="'),
            ListSegment(number=0),
            _text('">\n'),
            ListSegment(item=True),
            ListSegment(mark="item"),
            _text("\n</passage>"),
        ],
        between="\n",
        tail=[
            _text("\n<query>\n"),
            ListSegment(field=FIELD),
            ListSegment(mark="query"),
            _text("\n</query>"),
            _special("<|im_end|>"),
            _text("\n"),
            _special("<|im_start|>"),
            _text("assistant\n<think>\n\n</think>\n\n"),
        ],
    )


def jina_config(raw: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> ListRankerConfig:
    """Makes the config of such a folder, of its config.json and the shapes of its projector's tensors by name.

    Raises CheckpointError naming what is not as published.
    """
    if raw.get("model_type") != "qwen3":
        raise CheckpointError(
            f"config.json: {ARCHITECTURE} with model_type {raw.get('model_type')!r}: the published one is a qwen3"
        )
    sliding = "sliding_attention" in (raw.get("layer_types") or ())
    item, query = _OF_SLIDING_LAYERS if sliding else (_MAX_ITEM_TOKENS, _MAX_QUERY_TOKENS)
    projector = [_layer(shapes, "projector.0", "relu"), _layer(shapes, "projector.2", "identity")]
    try:
        return ListRankerConfig(
            body={name: value for name, value in raw.items() if name not in ("architectures", "auto_map")},
            projector=projector,
            template=jina_template(),
            item_marker="<|embed_token|>",
            query_marker="<|rerank_token|>",
            max_items=_MAX_ITEMS,
            max_item_tokens=item,
            max_query_tokens=query,
            join="mean-query",
        )
    except ValidationError as error:
        raise CheckpointError(f"{ARCHITECTURE}: {explain(error)}") from None


def _layer(shapes: Mapping[str, tuple[int, ...]], name: str, activation: str) -> DenseLayer:
    shape = shapes.get(f"{name}.weight")
    if shape is None or len(shape) != 2:
        raise CheckpointError(
            f"{ARCHITECTURE}: tensor '{name}.weight' is {'missing' if shape is None else list(shape)}: the published "
            "projector is two linear layers, projector.0 and projector.2"
        )
    fields = {"in_features": shape[1], "out_features": shape[0], "bias": False, "activation": activation}
    return DenseLayer.model_validate(fields)
