"""The training route on a small random model; the committed checkpoint has its own tests."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from examples.esco.bag import Bag
from examples.esco.decoder import LateDecoder, Shape
from examples.esco.evaluate import CheckpointRanker
from examples.esco.train_ranker import TrainedRanker
from examples.esco.vocabulary import (
    BOS,
    EOS,
    LABELS,
    SPECIAL_TOKENS,
    build_tokenizer,
    english_words,
    known_words,
    piece_texts,
    ranker_tokenizer,
    spellings,
    useful_words,
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
    bag = Bag(torch.randn(len(tokenizer), HIDDEN), torch.zeros(HIDDEN))
    shape = Shape(layers=2, heads=3, intermediate_size=32)
    decoder = LateDecoder.build(shape, tokenizer, bag, torch.eye(HIDDEN)[0])
    return TrainedRanker(decoder.model.eval(), tokenizer)


def test_pieces_are_words_of_the_texts_continuations_that_they_use_and_words_given(source):
    tokenizer = ranker_tokenizer(
        source, QUERIES, ["cooks cooks cooks bakery"], ["cook", "unused", "more"], size=14
    )
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


def test_useful_words_are_near_and_frequent():
    frequent, rare = english_words()[10], "zzzzz"
    assert useful_words([rare, frequent]) == [frequent, rare]
    assert useful_words([frequent, english_words()[9]]) == [english_words()[9], frequent]


def test_known_words_are_whole_words_of_three_letters(source):
    assert known_words(source) == ["bak", "baker", "cook", "fish", "unused", "yes"]


def test_special_tokens_and_labels_are_single_tokens_that_text_cannot_add(ranker):
    vocab = ranker.tokenizer.get_vocab()
    assert all(name in vocab for name in (*SPECIAL_TOKENS, *LABELS))
    assert ranker.tokenizer("yes")["input_ids"] == [vocab["yes"]]
    assert {vocab[BOS], vocab[EOS]}.isdisjoint(ranker.tokenizer("baker")["input_ids"])


def test_long_words_have_a_spelling_in_shorter_pieces_where_the_vocabulary_has_one():
    tokenizer = build_tokenizer(["fish", "fisher", "fishers", "##er", "##ers", "##s", "cooker", "be"])
    vocab = tokenizer.get_vocab()
    assert spellings(tokenizer) == {
        vocab["fisher"]: (vocab["fish"], vocab["##er"]),
        vocab["fishers"]: (vocab["fisher"], vocab["##s"]),
    }


def test_pieces_are_texts_without_the_mark_of_a_continuation(ranker):
    texts = piece_texts(ranker.tokenizer)
    assert texts[ranker.tokenizer.get_vocab()["##er"]] == "er"
    assert len(texts) == len(ranker.tokenizer)


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
