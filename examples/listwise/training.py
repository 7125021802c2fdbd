"""Training of the list ranker: MiniLM's body reads query and titles from left to right, a vector at each marker.

Owns model, lists, loss and steps. Reads the training split alone: no query, phrase or held-out item of an evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from examples.esco.dataset import Dataset, JudgedQuery
from examples.esco.minilm import minilm_path
from rankport.exporters.checkpoints.list_ranker.config import ListRankerConfig
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel

ITEM, QUERY = "[unused1]", "[unused2]"
"""Rows that MiniLM's table has and no text uses, made special tokens here."""
POSITIONS = 1024  # twice MiniLM's: 125 titles have about 700
MAX_ITEMS = 125
_LEAST_ITEMS = 5
TEMPLATE = {
    "head": [{"special": ["[CLS]"]}, {"field": "query"}, {"text": " :"}],
    "item": [{"text": " "}, {"item": True}, {"mark": "item"}],
    "tail": [{"text": " : "}, {"field": "query"}, {"mark": "query"}],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """Choices of a run, made on the valid split."""

    seed: int = 7
    epochs: int = 2
    lists: int = 8  # a step
    rate: float = 3e-4
    frozen_layers: int = 3  # the lowest, and the embeddings
    temperature: float = 0.5  # of the gains in the targets
    sharpness: float = 20.0  # of the cosines
    long_every: int = 8  # steps, of which one has long lists: with items that nobody judged for the query
    long_lists: int = 1


def train(
    dataset: Dataset, config: TrainingConfig, on_step: Callable[[int, int, float], None] = lambda *_: None
) -> tuple[ListRankerModel, tokenizers.Tokenizer]:
    """Fine-tunes on the training queries' graded candidates, in a new order each time. Returns model and tokenizer.

    The loss is the cross entropy of each list's softmax with that of its gains (ListNet, Cao et al. 2007).
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    tokenizer = list_tokenizer()
    model = build()
    for part in (model.model.embeddings, *model.model.encoder.layer[: config.frozen_layers]):  # type: ignore[union-attr, index]
        part.requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.rate, weight_decay=0.01)
    lists = Lists(dataset, rng)
    steps = config.epochs * (len(lists.queries) // config.lists)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.rate, total_steps=steps + 1, pct_start=0.15
    )
    model.train()
    for step in range(steps):
        long = config.long_every > 0 and step % config.long_every == config.long_every - 1
        chosen = lists.draw(config.long_lists, MAX_ITEMS) if long else lists.draw(config.lists)
        loss = _loss(model, tokenizer, chosen, config)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        on_step(step + 1, steps, loss.item())
    return model.eval(), tokenizer


def build() -> ListRankerModel:
    """Makes the model of MiniLM's weights as a decoder, its positions twice over, and a projector."""
    body = BertModel.from_pretrained(minilm_path(), local_files_only=True, add_pooling_layer=False)
    places = body.embeddings.position_embeddings.weight.detach()
    config = BertConfig.from_pretrained(minilm_path(), local_files_only=True)
    config.is_decoder, config.max_position_embeddings = True, POSITIONS
    config._attn_implementation = "eager"  # torch's own attention is slow backwards for short texts
    decoder = BertModel(config, add_pooling_layer=False)
    state = body.state_dict() | {"embeddings.position_embeddings.weight": torch.cat([places, places])}
    decoder.load_state_dict({name: state[name] for name in decoder.state_dict()})
    fields = config.to_diff_dict()
    for name in ("architectures", "_name_or_path", "transformers_version", "gradient_checkpointing"):
        fields.pop(name, None)
    form = ListRankerConfig.model_validate(
        {
            "body": fields,
            "projector": [{"in_features": 384, "out_features": 384, "bias": False, "activation": "identity"}],
            "template": TEMPLATE,
            "item_marker": ITEM,
            "query_marker": QUERY,
            "max_items": MAX_ITEMS,
            "max_item_tokens": 48,
            "max_query_tokens": 32,
            "join": "mean-query",
        }
    )
    model = ListRankerModel(form, decoder)
    with torch.no_grad():
        model.projector[0].weight.copy_(torch.eye(384))  # type: ignore[operator, union-attr]
        rows = decoder.embeddings.word_embeddings.weight
        rows[1 + 1], rows[2 + 1] = rows[102].clone(), rows[102].clone()
    return model


def list_tokenizer() -> tokenizers.Tokenizer:
    """Gives MiniLM's tokenizer without its cut, the two markers special."""
    tokenizer = tokenizers.Tokenizer.from_file(str(minilm_path() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.add_special_tokens([ITEM, QUERY])
    return tokenizer


def save(model: ListRankerModel, tokenizer: tokenizers.Tokenizer, path: Path) -> None:
    """Writes a checkpoint."""
    model.save(path)
    tokenizer.save(str(path / "tokenizer.json"))


@dataclass(frozen=True, slots=True)
class DrawnList:
    """A query with candidates in the order in which they are read."""

    query: str
    titles: Sequence[str]
    gains: NDArray[np.int64]  # [titles]


class Lists:
    """Training lists, drawn in random orders."""

    def __init__(self, dataset: Dataset, rng: np.random.Generator) -> None:
        self.queries = list(dataset.split("train"))
        self._titles = {item.id: item.title for item in dataset.items}
        self._others = [dataset.items[row].id for row in dataset.training_rows()]
        self._rng = rng
        self._order: list[int] = []

    def draw(self, count: int, items: int | None = None) -> list[DrawnList]:
        """Draws lists, no query again before all came: some of its candidates, or all and others up to `items`."""
        while len(self._order) < count:
            self._order = [*self._order, *self._rng.permutation(len(self.queries)).tolist()]
        chosen, self._order = self._order[:count], self._order[count:]
        return [self._drawn(self.queries[place], items) for place in chosen]

    def _drawn(self, query: JudgedQuery, items: int | None) -> DrawnList:
        gains = dict(zip(query.item_ids, query.gains, strict=True))
        if items is None:
            count = int(self._rng.integers(_LEAST_ITEMS, len(gains) + 1))
            chosen = self._rng.permutation(list(gains))[:count].tolist()
            gains = {item: gains[item] for item in chosen}
        else:
            others = [self._others[place] for place in self._rng.permutation(len(self._others))[:items]]
            gains |= {item: 0 for item in others[: items - len(gains)] if item not in gains}
        ids = list(gains)
        order = [ids[place] for place in self._rng.permutation(len(ids))]
        return DrawnList(
            query.text, [self._titles[item] for item in order], np.array([gains[item] for item in order])
        )


def prompt_tokens(tokenizer: tokenizers.Tokenizer, drawn: DrawnList) -> tuple[list[int], list[int]]:
    """Gives the tokens of a list's prompt, and the places of its markers, the query's last."""
    items = "".join(f" {title}{ITEM}" for title in drawn.titles)
    text = f"[CLS]{drawn.query} :{items} : {drawn.query}{QUERY}"
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    marks = {tokenizer.token_to_id(name) for name in (ITEM, QUERY)}
    return ids, [place for place, token in enumerate(ids) if token in marks]


def _loss(
    model: ListRankerModel,
    tokenizer: tokenizers.Tokenizer,
    chosen: Sequence[DrawnList],
    config: TrainingConfig,
) -> Tensor:
    made = [prompt_tokens(tokenizer, drawn) for drawn in chosen]
    ids, marks = (_padded([run[part] for run in made]) for part in (0, 1))
    with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16()):
        read = model(ids, marks)
    vectors = nn.functional.normalize(read, dim=-1)
    losses = []
    for row, drawn in zip(vectors, chosen, strict=True):
        count = len(drawn.titles)
        scores = config.sharpness * row[:count] @ row[count]
        target = (torch.from_numpy(drawn.gains) / config.temperature).softmax(0)
        losses.append(-(target * scores.log_softmax(0)).sum())
    return torch.stack(losses).mean()


def multiplies_bfloat16() -> bool:
    """Says whether the processor multiplies bfloat16 by itself."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _padded(runs: Sequence[Sequence[int]]) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(run) for run in runs], batch_first=True)


def score_checkpoint(
    model: ListRankerModel, tokenizer: tokenizers.Tokenizer, lists: Sequence[DrawnList]
) -> list[NDArray[np.float32]]:
    """Scores lists by the module in torch, each in one block. [titles] each"""
    scores = []
    for drawn in lists:
        ids, marks = prompt_tokens(tokenizer, drawn)
        with torch.inference_mode():
            vectors = nn.functional.normalize(model(torch.tensor([ids]), torch.tensor([marks])), dim=-1)[0]
        scores.append((vectors[:-1] @ vectors[-1]).numpy())
    return scores
