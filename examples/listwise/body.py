"""The list ranker's body, made of the demo's ranker: its own score of each item, and feedback of the best of a list.

In the demo's body (`examples/esco/decoder.py`) an item is its own token until the last layer, where all take the
query's vector from the words. Two layers are put around it, both of ordinary attention:

- the first copies each item's token to the marker behind it: there its heads look one place back, elsewhere at the
  start token, where nothing is;
- the last has no places. In it the query's marker looks at the items, the nearest to the query most, and takes up a
  share of them (pseudo-relevance feedback, Rocchio 1971): what they have in common tells which others are meant. Items
  look at the start token.

So a marker of an item reads token + SHARE · query's vector, the query's that vector with feedback. Markers
are told apart by two directions that items hardly have, which the projector leaves out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase, SmolLM3Config, SmolLM3Model
from transformers.models.smollm3.modeling_smollm3 import SmolLM3DecoderLayer

from examples.esco.decoder import Gains, LateDecoder
from examples.esco.train_ranker import CHECKPOINT_DIR
from examples.esco.vocabulary import BOS, LABELS, PREFIX_MAX_TOKENS
from examples.listwise.feedback import SHARE, Feedback, FeedbackLayer
from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel

ITEM, QUERY = "[ITEM]", "[QUERY]"
MAX_ITEMS, MAX_ITEM_TOKENS = 125, 64
TEMPLATE = {
    "head": [{"special": [BOS]}, {"field": "query"}],
    "item": [{"item": True}, {"mark": "item"}],
    "tail": [{"mark": "query"}],
}
_TEXTS = 64  # that the demo's ranker reads together
_FAST = 6  # turns of the rotation that tell the places of neighbours apart
_NEAR, _CHOICE = 10.0, 40.0
"""Sizes of the channels that look one place back, and of the one that looks at the start token."""
_FAINT = 0.1  # length of the row of an item's marker, which the first layer alone is to see
_SINK = (
    60.0  # logit by which items look at the start token in the layer of feedback, and the query not at itself
)


@dataclass(frozen=True, slots=True)
class Directions:
    """Directions of items' tokens."""

    constant: Tensor  # [hidden] along which all items are zero and words alike
    rare: Tensor  # [2, hidden] along which items have least, of the others: those of the markers, item's and query's
    main: Tensor  # [directions, hidden] along which they differ most, and their mean

    @classmethod
    def of(
        cls, demo: LlamaForCausalLM, labels: list[int], tokens: NDArray[np.floating], count: int
    ) -> "Directions":
        """Finds them of item `tokens` [items, hidden]; the rows of the demo's labels lie along the constant."""
        yes, no = demo.model.embed_tokens.weight[labels]
        constant = nn.functional.normalize(yes - no, dim=0)
        rows = torch.from_numpy(tokens.astype(np.float32))
        rows = rows - torch.outer(rows @ constant, constant)
        _, vectors = torch.linalg.eigh(rows.T @ rows / len(rows) + 10 * torch.outer(constant, constant))
        return cls(constant, vectors[:, :2].T.contiguous(), vectors[:, -1 - count : -1].T.contiguous())


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo's ranker."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase
    directions: Directions

    @classmethod
    def load(cls, item_tokens: NDArray[np.floating]) -> "Demo":
        """Loads it; `item_tokens` [items, hidden] are of items that training may read."""
        model = LlamaForCausalLM.from_pretrained(CHECKPOINT_DIR, local_files_only=True, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT_DIR, local_files_only=True)
        labels = tokenizer.convert_tokens_to_ids(list(LABELS))
        with torch.no_grad():
            _look_alike_from_afar(model)
            return cls(model, tokenizer, Directions.of(model, labels, item_tokens, model.config.head_dim - 2))

    def query_vectors(self, texts: Sequence[str]) -> Tensor:
        """Computes what its last layer takes from items. [texts, hidden]"""
        decoder = LateDecoder(self.model, self.tokenizer, self.directions.constant, Gains())
        parts = [texts[start : start + _TEXTS] for start in range(0, len(texts), _TEXTS)]
        with torch.no_grad():
            return torch.cat([decoder.query_vectors(decoder.prefixes(list(part))) for part in parts])

    def feedback(self) -> FeedbackLayer:
        """Makes the layer as it starts."""
        return FeedbackLayer(self.directions.main, self.model.config.num_attention_heads, Feedback())


def list_ranker(demo: Demo, feedback: FeedbackLayer) -> tuple[ListRankerModel, PreTrainedTokenizerBase]:
    """Makes the model and its tokenizer."""
    tokenizer, directions = demo.tokenizer, demo.directions
    tokenizer.add_special_tokens({"additional_special_tokens": [ITEM, QUERY]})
    body = SmolLM3Model(_config(demo.model, len(tokenizer)))
    with torch.no_grad():
        _rows(body, demo.model, directions, *tokenizer.convert_tokens_to_ids([ITEM, QUERY]))
        first, *others, last = body.layers
        _copy_the_token_before(first, directions)
        for layer, source in zip(others, demo.model.model.layers, strict=True):
            layer.load_state_dict(source.state_dict())
        _take_the_query(others[-1], directions)
        _feed_back(last, directions, feedback)
        model = ListRankerModel(_form(body.config), body).eval()
        rare = directions.rare
        model.projector[0].weight.copy_(torch.eye(rare.shape[1]) - rare.T @ rare)  # type: ignore[operator, union-attr]
    return model, tokenizer


def _config(demo: LlamaForCausalLM, tokens: int) -> SmolLM3Config:
    config, layers = demo.config, demo.config.num_hidden_layers + 2
    return SmolLM3Config(
        vocab_size=tokens,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        max_position_embeddings=8192,
        rms_norm_eps=config.rms_norm_eps,
        attention_bias=True,
        no_rope_layers=[1] * (layers - 1) + [0],
        rope_parameters=config.rope_parameters,
        pad_token_id=config.pad_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
    )


def _form(config: SmolLM3Config) -> ListRankerConfig:
    body = {name: value for name, value in config.to_diff_dict().items() if name != "transformers_version"}
    square = {"in_features": config.hidden_size, "out_features": config.hidden_size}
    return ListRankerConfig.model_validate(
        {
            "body": body,
            "projector": [{**square, "bias": False, "activation": "identity"}],
            "template": TEMPLATE,
            "item_marker": ITEM,
            "query_marker": QUERY,
            "max_items": MAX_ITEMS,
            "max_item_tokens": MAX_ITEM_TOKENS,
            "max_query_tokens": PREFIX_MAX_TOKENS,
            "join": "mean-query",
        }
    )


def _rows(body: SmolLM3Model, demo: LlamaForCausalLM, directions: Directions, item: int, query: int) -> None:
    rows = body.embed_tokens.weight
    known = demo.model.embed_tokens.weight
    rows[: len(known)] = known
    rows[item], rows[query] = _FAINT * directions.rare[0], directions.rare[1]


def _clear(layer: SmolLM3DecoderLayer) -> None:
    attention = layer.self_attn
    for part in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, layer.mlp.down_proj):
        for weight in part.parameters():
            weight.zero_()


def _copy_the_token_before(layer: SmolLM3DecoderLayer, directions: Directions) -> None:
    """Makes a layer add to items' markers the token before them, to others nothing."""
    _clear(layer)
    attention, width = layer.self_attn, len(directions.constant)
    head, half = attention.head_dim, attention.head_dim // 2
    turns = float(attention.config.rope_parameters["rope_theta"]) ** (-torch.arange(_FAST) / half)
    for start in range(0, width, head):
        fast, slow = slice(start, start + _FAST), start + half - 1
        attention.k_proj.bias[fast] = _NEAR
        attention.q_proj.bias[fast] = _NEAR * turns.cos()
        attention.q_proj.bias[start + half : start + half + _FAST] = -_NEAR * turns.sin()
        attention.q_proj.bias[slow] = _CHOICE
        attention.q_proj.weight[slow] = -_CHOICE * directions.rare[0] / width**0.5
        attention.k_proj.weight[slow] = -_CHOICE * directions.constant / width**0.5
    attention.v_proj.weight.copy_(_content(directions))
    attention.o_proj.weight.copy_(torch.eye(width) / width**0.5)  # the norm made a unit vector that long


def _look_alike_from_afar(demo: LlamaForCausalLM) -> None:
    """Clears what makes the last layer look at words by their distance, which in a list is another for each item."""
    attention = demo.model.layers[-1].self_attn
    slow = torch.arange(attention.q_proj.bias.numel()) % attention.head_dim == attention.head_dim // 2 - 1
    attention.q_proj.bias[~slow] = 0


def _take_the_query(layer: SmolLM3DecoderLayer, directions: Directions) -> None:
    """Makes the demo's last layer add a share of the query's vector where it took it away, along nothing else."""
    weight, constant = layer.self_attn.o_proj.weight, directions.constant
    weight.copy_(-SHARE * (weight - torch.outer(constant, constant @ weight)))


def _feed_back(layer: SmolLM3DecoderLayer, directions: Directions, feedback: FeedbackLayer) -> None:
    """Makes the query's marker take up the items that are nearest to it; all others look at the start token."""
    _clear(layer)
    attention, width = layer.self_attn, len(directions.constant)
    unit, scale = 1 / width**0.5, attention.head_dim**0.5
    whole = (
        1 + SHARE**2
    ) ** 0.5  # length of the state at the query's marker, whose vector is about SHARE long
    count = len(directions.main)
    for head in range(feedback.heads):
        start, rows = head * attention.head_dim, slice(head * count, (head + 1) * count)
        main, sink, itself = slice(start, start + count), start + count, start + count + 1
        attention.q_proj.weight[main] = scale * unit * whole / SHARE * feedback.query[rows]
        attention.k_proj.weight[main] = unit * feedback.key[rows]
        attention.q_proj.bias[sink] = scale
        attention.q_proj.weight[sink] = -scale * unit * whole * directions.rare[1]
        attention.k_proj.weight[sink] = -_SINK * unit * directions.constant
        attention.q_proj.bias[itself] = scale
        attention.k_proj.weight[itself] = -_SINK * unit * directions.rare[1]
    attention.v_proj.weight.copy_(unit * feedback.value @ _content(directions))
    attention.o_proj.weight.copy_(feedback.out)


def _content(directions: Directions) -> Tensor:
    """Makes the projection on what items have. [hidden, hidden]"""
    lacking = torch.cat([directions.constant[None], directions.rare])
    return torch.eye(lacking.shape[1]) - lacking.T @ lacking
