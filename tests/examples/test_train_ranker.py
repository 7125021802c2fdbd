"""The training route on a small random model; the committed checkpoint has its own tests."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from examples.esco.evaluate import CheckpointRanker
from examples.esco.packing import logit_gaps, pack
from examples.esco.train_ranker import TrainedRanker, TrainingConfig, build_model, listwise_loss
from examples.esco.vocabulary import BOS, EOS, LABELS, SPECIAL_TOKENS, PromptIds, pruned_tokenizer

HIDDEN = 24
SOURCE_PIECES = ["[PAD]", "[UNK]", "yes", "no", "baker", "fish", "##er", "cook", "a", "##a", "unused"]
QUERIES = ["baker", "fisher cook", "a cook"]


@pytest.fixture
def source() -> Tokenizer:
    vocab = {piece: id for id, piece in enumerate(SOURCE_PIECES)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


@pytest.fixture
def table() -> torch.Tensor:
    return torch.randn(len(SOURCE_PIECES), HIDDEN, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def ranker(source, table) -> TrainedRanker:
    torch.manual_seed(0)
    tokenizer = pruned_tokenizer(source, QUERIES)
    # A large scale, so that attention to a wrong token would show.
    config = TrainingConfig(layers=2, heads=3, kv_heads=1, intermediate_size=32, embedding_std=1.0)
    return TrainedRanker(build_model(config, tokenizer, source.get_vocab(), table).eval(), tokenizer)


def test_a_pruned_vocabulary_tokenizes_its_texts_as_the_source_does(source, ranker):
    for query in QUERIES:
        assert ranker.tokenizer.tokenize(query) == source.encode(query).tokens
    assert "unused" not in ranker.tokenizer.get_vocab()


def test_special_tokens_and_labels_are_single_tokens_that_text_cannot_add(ranker):
    vocab = ranker.tokenizer.get_vocab()
    assert all(name in vocab for name in (*SPECIAL_TOKENS, *LABELS))
    assert ranker.tokenizer("yes")["input_ids"] == [vocab["yes"]]
    assert {vocab[BOS], vocab[EOS]}.isdisjoint(ranker.tokenizer("baker")["input_ids"])


def test_embedding_rows_start_from_the_source_table_at_the_asked_scale(source, table, ranker):
    weight, vocab = ranker.model.get_input_embeddings().weight, ranker.tokenizer.get_vocab()
    torch.testing.assert_close(weight[vocab["baker"]], table[SOURCE_PIECES.index("baker")] / table.std())


def test_a_packed_list_equals_its_full_sequences(ranker, tmp_path):
    ranker.tokenizer.save_pretrained(tmp_path)
    ranker.model.save_pretrained(tmp_path)  # fp32
    full = CheckpointRanker.load(tmp_path)
    ids = PromptIds.of(ranker.tokenizer)
    items = torch.randn(len(QUERIES), 5, HIDDEN)
    prefixes = [ids.prefix(ranker.tokenizer, query) for query in QUERIES]
    assert len({len(prefix) for prefix in prefixes}) > 1  # padding is exercised
    with torch.no_grad():
        gaps = logit_gaps(ranker.model, pack(prefixes, items, ids.end, ids.pad), ids.labels)
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
            logit_gaps(ranker.model, pack(prefix, tokens, ids.end, ids.pad), ids.labels)[0]
            for tokens in (items, changed)
        )
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]])
    assert abs(before[1] - after[1]) > 1e-3


def test_the_loss_is_least_where_the_softmax_equals_the_gains():
    gains = torch.tensor([[2, 1, 0]])
    best = listwise_loss(torch.tensor([[0.8, 0.2, 1e-9]]).log(), gains, partial_weight=0.25)
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    assert best.item() == pytest.approx(entropy, abs=1e-6)
    assert listwise_loss(torch.zeros(1, 3), gains, partial_weight=0.25) > best


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
