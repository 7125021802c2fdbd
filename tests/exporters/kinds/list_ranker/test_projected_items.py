"""Items as tokens through a projector, as PE-Rank has them: Dense modules behind an encoder of another width."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from safetensors.torch import load_file
from transformers import BertModel

from rankport.exporters.export import export
from rankport.protos.errors import CheckpointError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.scorer import Scorer
from support import sentence_folders
from support.lists.drafts import ITEM, QUERY, raw_tokenizer
from support.lists.rankers import body, checkpoint

CONFIG = EngineConfig(threads=1)
ITEMS = ["nurse a b", "pilot", "cook c d e"]
TEMPLATE = {
    "head": [{"text": "query: "}, {"field": "query"}],
    "item": [{"text": "\n"}, {"number": 1}, {"text": ": "}, {"item": True}, {"mark": "item"}],
    "tail": [{"text": "\nquery: "}, {"field": "query"}, {"mark": "query"}],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of width 32 whose mean goes through 32 -> 48 -> 24, and without that."""
    root = tmp_path_factory.mktemp("projected")
    bert = sentence_folders.bert(root / "bert")
    dense = [("Dense", "2_Dense"), ("Dense", "3_Dense")]
    encoder = sentence_folders.pooled(bert, root / "encoder", "mean", *dense)
    sentence_folders.add_dense(
        encoder, "2_Dense", 32, 48, activation_function="torch.nn.modules.activation.GELU"
    )
    identity = "torch.nn.modules.linear.Identity"
    sentence_folders.add_dense(encoder, "3_Dense", 48, 24, activation_function=identity)
    sentence_folders.pooled(bert, root / "plain", "mean")
    checkpoint(root / "ranker", template=TEMPLATE, max_items=8)
    return root


@pytest.fixture(scope="module")
def encoder(folder: Path, exported: Callable[..., Bundle]) -> Bundle:
    return exported(folder / "encoder", name="projected", kind="item-encoder")


def projected(folder: Path) -> torch.Tensor:
    """Computes the items' tokens in torch. [items, 24]"""
    model = BertModel.from_pretrained(folder / "bert").eval()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "bert" / "tokenizer.json"))
    first, second = (
        load_file(folder / "encoder" / name / "model.safetensors") for name in ("2_Dense", "3_Dense")
    )
    rows = []
    for text in ITEMS:
        with torch.no_grad():
            mean = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(dim=0)
        inner = torch.nn.functional.gelu(first["linear.weight"] @ mean + first["linear.bias"])
        rows.append(second["linear.weight"] @ inner + second["linear.bias"])
    return torch.stack(rows)


def by_hand(folder: Path, query: str, items: torch.Tensor) -> np.ndarray:
    """Scores one block in torch: cosines of what the projector makes of the states at the markers. [items]"""
    model, stored, known = body(), load_file(folder / "ranker" / "model.safetensors"), raw_tokenizer()
    table = model.get_input_embeddings().weight
    parts, marks = list[torch.Tensor](), list[int]()

    def add(part: torch.Tensor) -> None:
        parts.append(part)

    def write(text: str) -> None:
        add(table[known.encode(text, add_special_tokens=False).ids])

    def mark(name: str) -> None:
        marks.append(sum(map(len, parts)))
        add(table[[known.token_to_id(name)]])

    write(f"query: {query}")
    for number, item in enumerate(items, 1):
        write(f"\n{number}: ")
        add(item[None])
        mark(ITEM)
    write(f"\nquery: {query}")
    mark(QUERY)
    with torch.no_grad():
        states = model(inputs_embeds=torch.cat(parts)[None]).last_hidden_state[0, marks]
        vectors = torch.tanh(states @ stored["projector.0.weight"].T + stored["projector.0.bias"])
        cosines: np.ndarray = torch.nn.functional.cosine_similarity(vectors[:-1], vectors[-1:]).numpy()
    return cosines


def test_tokens_and_scores_are_those_of_torch(
    folder: Path, encoder: Bundle, exported: Callable[..., Bundle]
) -> None:
    ranker = exported(folder / "ranker", name="reads", kind="list-ranker", item_encoder=encoder.path)
    with ItemEncoder.load(encoder, config=CONFIG) as items:
        tokens = np.asarray(items.encode(ITEMS), np.float32)
    assert tokens.shape == (3, 1, 24)
    np.testing.assert_allclose(tokens[:, 0], projected(folder), rtol=1e-3, atol=1e-3)  # kept in float16
    with Scorer.load(ranker, config=CONFIG) as scorer:
        scores = scorer.score("night nurse", list(tokens)).scores
    expected = by_hand(folder, "night nurse", torch.from_numpy(tokens[:, 0]))
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_another_width_is_refused_with_the_place_of_a_projector(
    folder: Path, exported: Callable[..., Bundle], tmp_path: Path
) -> None:
    plain = exported(folder / "plain", name="plain", kind="item-encoder")
    with pytest.raises(
        CheckpointError, match=r"tokens 32 wide .* 24 wide.*behind the encoder, as Dense modules"
    ):
        export(folder / "ranker", tmp_path / "b", kind="list-ranker", item_encoder=plain.path)
