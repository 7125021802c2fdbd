"""Lists of items that a decoder has compressed to k embedding tokens each, offline, as RRK has them.

The compressor reads an item and k memory tokens behind it, and gives the states at these: an item encoder that pools
the last k. The ranker reads k rows an item, and a logit at the marker behind them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from numpy.typing import NDArray

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.checkpoints.list_ranker.module import ListRankerModel
from rankport.exporters.kinds.list_ranker.proof.reference import ListReference
from rankport.exporters.verify import verify
from rankport.protos.types import Item, Key
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.jobs.config import EncodeJobConfig
from rankport.runtime.jobs.encode_job import namespace_of, run_encode_job
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from rankport.runtime.kinds.scorer import Scorer
from rankport.runtime.store.opening import open_store
from support.lists.drafts import tokenizer_json
from support.lists.rankers import body, checkpoint

CONFIG = EngineConfig(threads=1)
ITEMS = ["hospital nurse", "welder", "software engineer", "teacher", "baker", "pilot"]
TEMPLATE = {
    "head": [{"special": ["<|im_start|>"]}, {"text": "query: "}, {"field": "query"}],
    "item": [{"text": "\n"}, {"number": 1}, {"text": ": "}, {"item": True}, {"mark": "item"}],
}
LOGIT = [{"in_features": 24, "out_features": 1, "bias": False, "activation": "identity"}]


@dataclass(frozen=True)
class Made:
    """A compressor and its ranker, of k tokens an item."""

    tokens: int
    encoder: Bundle
    ranker: Bundle
    source: Path  # of the ranker


@pytest.fixture(scope="module", params=[8, 50])
def made(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    exported: Callable[..., Bundle],
) -> Made:
    tokens, folder = request.param, tmp_path_factory.mktemp("compressed")
    body().save_pretrained(folder / "compressor")
    (folder / "compressor" / "tokenizer.json").write_text(tokenizer_json())
    memory = ", ".join(["'<|im_end|>'"] * tokens)
    (folder / "prompt.toml").write_text(f"[[item]]\nitem = true\n[[item]]\nspecial = [{memory}]\n")
    encoder = exported(
        folder / "compressor",
        name=f"compressor-{tokens}",
        kind="item-encoder",
        prompt=folder / "prompt.toml",
        pooling="last-k",
        tokens=tokens,
        normalize=False,
        max_item_tokens=tokens + 32,
    )
    source = checkpoint(
        folder / "ranker",
        projector=LOGIT,
        read_out="logit",
        template=TEMPLATE,
        query_marker=None,
        max_item_tokens=max(tokens, 40),
        max_tokens=600,
    )
    ranker = exported(source, name=f"rrk-{tokens}", kind="list-ranker", item_encoder=encoder.path)
    return Made(tokens, encoder, ranker, source)


def by_the_module(made: Made, query: str, items: Sequence[Item]) -> NDArray[np.float64]:
    """Scores a block by the source in torch: the sigmoid of what it reads at the markers. [items]"""
    source = load_checkpoint(made.source)
    assert isinstance(source.model, ListRankerModel)
    reference = ListReference.of(source.model, made.source / "tokenizer.json", made.ranker.manifest.limits)
    logits = reference.logits({"query": query}, items, [0, len(items)], "error")
    return 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))


def test_a_compressed_item_is_the_states_at_its_memory_tokens(made: Made) -> None:
    tokenizer, text = tokenizers.Tokenizer.from_str(tokenizer_json()), ITEMS[0]
    memory = [tokenizer.token_to_id("<|im_end|>")] * made.tokens
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids + memory])
    with torch.no_grad():
        states = body()(input_ids=ids).last_hidden_state[0, -made.tokens :].numpy()
    with ItemEncoder.load(made.encoder, config=CONFIG) as encoder:
        (compressed,) = encoder.encode([text])
    np.testing.assert_allclose(compressed, states, atol=5e-3)  # kept in float16
    assert np.abs(states[0] - states[-1]).max() > 0.05  # k rows, not one k times


def test_it_is_paired_and_proven_with_its_embedding_tokens(made: Made) -> None:
    form, pairing = made.ranker.manifest.embedding, made.ranker.manifest.pairing
    assert form is not None
    assert pairing is not None
    assert (form.tokens, form.hidden_size) == (made.tokens, 24)
    assert pairing.encoder_fingerprint == made.encoder.manifest.fingerprint
    verdict = verify(made.ranker.path, made.source)
    assert verdict.failures == ()
    errors = {mode.mode: mode.max_abs_error for mode in verdict.proof.parity.modes}
    assert errors["embeddings"] < 1e-5


def test_items_of_a_store_rank_as_the_module_ranks_their_rows(made: Made, tmp_path: Path) -> None:
    with (
        open_store(tmp_path / "tokens", create=True) as store,
        ItemEncoder.load(made.encoder, config=CONFIG) as encoder,
    ):
        rows = [ItemRow(place, f"i{place}", text) for place, text in enumerate(ITEMS)]
        run_encode_job(encoder, namespace_of(store, encoder), rows, EncodeJobConfig())
        compressed = encoder.encode(ITEMS)
        assert compressed.shape == (len(ITEMS), made.tokens, 24)
        with Scorer.load(made.ranker, store, config=CONFIG) as scorer:
            keys = [Key(f"i{place}") for place in range(4)]
            ranking = scorer.rank("night nurse", keys)
            scores = scorer.score("night nurse", keys).scores
            given = scorer.score("night nurse", list(compressed[:4])).scores
            several = scorer.score("night nurse", [Key(f"i{place}") for place in range(6)]).scores
    np.testing.assert_array_equal(scores, given)
    np.testing.assert_allclose(scores, by_the_module(made, "night nurse", list(compressed[:4])), atol=1e-5)
    assert list(ranking.indices) == np.argsort(-scores, kind="stable").tolist()
    assert len(set(several.tolist())) == 6
