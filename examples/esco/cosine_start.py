"""A decoder that ranks by a cosine before it has learned anything.

A ranker that starts from noise learns what the training items say and fails on others. This one starts as the cosine
between the mean of its query's word vectors and the item's token, in weights that an ordinary Qwen3 has; training
only adds to it. It needs one direction in which every item's token is zero, and MiniLM has one: its last layer norm
leaves 383 dimensions. Along it words carry a constant.

- Embedding rows have equal length: word vector times weight, filled up along the constant. So the norm of each layer
  keeps the weights.
- All layers but the last start as nearly nothing. Their queries and keys are the constant and a random view of the
  content: words attend to all words, an item only to itself, so what they learn of words reaches no item.
- The last layer attends evenly and its values are the identity: an item's state becomes its own d, plus b times the
  query's mean q, plus the constant. The final norm divides by its length, so what is left of the constant falls with
  the cosine of d and q, and the labels read it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Qwen3Config, Qwen3ForCausalLM

from examples.esco.vocabulary import LABELS, PromptIds

NULL_VARIANCE = 1e-6  # of item tokens along the constant, at most


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Size of the ranker, as wide as an item's token."""

    layers: int = 3
    heads: int = 6
    intermediate_size: int = 512


@dataclass(frozen=True, slots=True)
class Gains:
    """How strongly the start's parts speak; found once by the NDCG of the untrained model."""

    constant_key: float = 2.0  # of the constant beside the content in queries and keys
    sharpness: float = 2.0  # of the norms of queries and keys where items attend to themselves alone
    evenness: float = 0.05  # of the same norms in the last layer
    query: float = 4.0  # of the query's mean in the last layer
    carried: float = 1.5  # of the constant in the last layer
    read_out: float = 0.25  # of the labels' rows
    rest: float = 0.02  # of what starts random


def constant_direction(item_tokens: NDArray[np.floating]) -> NDArray[np.float32]:
    """Unit vector along which all `item_tokens` [items, hidden] are zero. ValueError where there is none."""
    tokens = item_tokens.astype(np.float64)
    values, vectors = np.linalg.eigh(tokens.T @ tokens / len(tokens))
    if values[0] > NULL_VARIANCE:
        raise ValueError(
            f"item tokens have a mean square of {values[0]:.1e} in every direction, not 0 in one"
        )
    direction: NDArray[np.float32] = vectors[:, 0].astype(np.float32)
    return direction


def embedding_rows(
    vectors: NDArray[np.floating], weights: NDArray[np.floating], constant: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Rows of unit length: centred `vectors` [pieces, hidden] by their weights, the rest along `constant`."""
    content = vectors - vectors.mean(0)
    content -= np.outer(content @ constant, constant)
    content *= weights[:, None]
    content /= 1.05 * np.linalg.norm(content, axis=1).max()
    rest = np.sqrt(1 - (content**2).sum(1))
    rows: NDArray[np.float32] = (content + rest[:, None] * constant).astype(np.float32)
    return rows


def build_model(
    shape: Shape, tokenizer: Any, rows: torch.Tensor, constant: torch.Tensor, gains: Gains | None = None
) -> Any:
    """A small Qwen3 that scores by the cosine; `rows` [len(tokenizer), hidden] start its embedding."""
    gains, hidden = gains or Gains(), rows.shape[1]
    model: Any = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            head_dim=hidden // shape.heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(_with_special_rows(rows, tokenizer, constant, gains))
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.mul_(gains.rest)
            layer.self_attn.o_proj.weight.mul_(gains.rest)
        for layer in model.model.layers[:-1]:
            _attend_by_kind(layer.self_attn, constant, gains)
        last = model.model.layers[-1].self_attn
        _copy_values(last, constant, gains.query, gains.carried)
        last.q_norm.weight.fill_(gains.evenness)
        last.k_norm.weight.fill_(gains.evenness)
    return model


def _with_special_rows(
    rows: torch.Tensor, tokenizer: Any, constant: torch.Tensor, gains: Gains
) -> torch.Tensor:
    table, (yes, no) = rows.clone(), PromptIds.of(tokenizer).labels
    special = [id for id in tokenizer.all_special_ids if id not in (yes, no)]
    table[special] = constant
    table[yes], table[no] = -gains.read_out * constant, gains.read_out * constant
    assert tokenizer.convert_tokens_to_ids(list(LABELS)) == [yes, no]
    return table


def _attend_by_kind(attention: Any, constant: torch.Tensor, gains: Gains) -> None:
    """Words match words by the constant; an item's token has none and matches itself by its content."""
    hidden, width = len(constant), attention.head_dim
    slow = width // 2 - 1  # the rotation of this channel and its twin is the slowest
    for start in range(0, hidden, width):
        view = torch.randn(hidden, width)
        view = torch.linalg.qr(view - torch.outer(constant, constant @ view))[0].T.contiguous()
        view[slow], view[-1] = gains.constant_key * constant, 0
        attention.q_proj.weight[start : start + width] = view
        attention.k_proj.weight[start : start + width] = view
    attention.q_norm.weight.fill_(gains.sharpness)
    attention.k_norm.weight.fill_(gains.sharpness)


def _copy_values(attention: Any, constant: torch.Tensor, content: float, along: float) -> None:
    """Values that add up the states attended to, of length `content`; the constant has a gain of its own."""
    hidden = len(constant)
    line = torch.outer(constant, constant)
    attention.v_proj.weight.copy_((content * (torch.eye(hidden) - line) + along * line) / hidden**0.5)
    attention.o_proj.weight.copy_(torch.eye(hidden))
