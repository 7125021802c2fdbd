"""The training route on a small random model; the committed checkpoint has its own tests."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from examples.esco.cosine_start import Gains, Shape, build_model
from examples.esco.evaluate import CheckpointRanker
from examples.esco.packing import logit_gaps, pack
from examples.esco.stages import fragment, near_and_random
from examples.esco.train_ranker import TrainedRanker
from examples.esco.vocabulary import (
    BOS,
    EOS,
    LABELS,
    SPECIAL_TOKENS,
    PromptIds,
    build_tokenizer,
    known_words,
    ranker_tokenizer,
)

HIDDEN = 24
SOURCE_PIECES = ["[PAD]", "[UNK]", "yes", "no", "baker", "fish", "##er", "cook", "a", "##a", "unused", "bak"]
QUERIES = ["baker", "fisher cook", "a cook"]


@pytest.fixture
def source() -> Tokenizer:
    vocab = {piece: id for id, piece in enumerate(SOURCE_PIECES)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


@pytest.fixture
def ranker() -> TrainedRanker:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(["baker", "fish", "##er", "cook", "a"])
    rows = torch.nn.functional.normalize(torch.randn(len(tokenizer), HIDDEN), dim=-1)
    shape = Shape(layers=2, heads=3, intermediate_size=32)
    # All parts speak loudly, so that attention to a wrong token would show.
    model = build_model(shape, tokenizer, rows, torch.eye(HIDDEN)[0], Gains(evenness=1.0, rest=1.0))
    return TrainedRanker(model.eval(), tokenizer)


def test_pieces_are_words_of_the_texts_continuations_that_they_use_and_words_given(source):
    tokenizer = ranker_tokenizer(source, QUERIES, ["cooks cooks cooks bakery"], ["unused"])
    vocab = tokenizer.get_vocab()
    assert vocab.keys() == {
        *SPECIAL_TOKENS,
        *LABELS,
        "baker",
        "fisher",
        "cook",
        "a",
        "##a",
        "##er",
        "cooks",
        "unused",
    }
    assert tokenizer.tokenize("Fisher cooker") == ["fisher", "cook", "##er"]


def test_known_words_are_whole_words_of_three_letters(source):
    assert known_words(source) == ["bak", "baker", "cook", "fish", "unused", "yes"]


def test_special_tokens_and_labels_are_single_tokens_that_text_cannot_add(ranker):
    vocab = ranker.tokenizer.get_vocab()
    assert all(name in vocab for name in (*SPECIAL_TOKENS, *LABELS))
    assert ranker.tokenizer("yes")["input_ids"] == [vocab["yes"]]
    assert {vocab[BOS], vocab[EOS]}.isdisjoint(ranker.tokenizer("baker")["input_ids"])


def test_a_packed_list_equals_its_full_sequences(ranker, tmp_path):
    ranker.tokenizer.save_pretrained(tmp_path)
    ranker.model.save_pretrained(tmp_path)  # fp32
    full = CheckpointRanker.load(tmp_path)
    ids = PromptIds.of(ranker.tokenizer)
    items = torch.randn(len(QUERIES), 5, HIDDEN)
    prefixes = [ids.prefix(ranker.tokenizer, query) for query in QUERIES]
    assert len({len(prefix) for prefix in prefixes}) > 1  # padding is exercised
    with torch.no_grad():
        gaps = logit_gaps(ranker.model, pack(prefixes, items, ids.pad), ids.labels)
    for query, tokens, row in zip(QUERIES, items, gaps, strict=True):
        logits = full.logits(query, tokens.numpy())
        np.testing.assert_allclose(row, logits[:, 0] - logits[:, 1], rtol=1e-5, atol=1e-5)


def test_an_item_changes_no_other_items_score(ranker):
    ids = PromptIds.of(ranker.tokenizer)
    items = torch.randn(1, 3, HIDDEN)
    changed = items.clone()
    changed[0, 1] += 1
    prefix = [ids.prefix(ranker.tokenizer, "baker")]
    with torch.no_grad():
        before, after = (
            logit_gaps(ranker.model, pack(prefix, tokens, ids.pad), ids.labels)[0]
            for tokens in (items, changed)
        )
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]])
    assert abs(before[1] - after[1]) > 1e-3


def test_fragments_are_one_to_five_words_in_a_row():
    rng, words = np.random.default_rng(0), ["a", "b", "c", "d", "e", "f", "g", "h"]
    fragments = [fragment(words, rng) for _ in range(200)]
    assert {len(text.split()) for text in fragments} == {1, 2, 3, 4, 5}
    assert all(text in " ".join(words) for text in fragments)


def test_half_of_a_words_list_is_near_it():
    cosines = torch.arange(200.0).expand(2, -1)
    rows = near_and_random(cosines, 16, np.random.default_rng(0))
    assert rows.shape == (2, 16)
    assert rows[:, :8].min() >= 200 - 64


def test_a_saved_checkpoint_is_half_precision_and_reloads_in_fp32(ranker, tmp_path):
    ranker.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert '"dtype": "float16"' in (tmp_path / "config.json").read_text()
    loaded = CheckpointRanker.load(tmp_path)
    assert loaded.model.dtype == torch.float32
    torch.testing.assert_close(
        loaded.model.get_input_embeddings().weight, ranker.model.get_input_embeddings().weight.float()
    )
