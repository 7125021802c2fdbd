"""`Tokenizer`: ids depend on the text alone."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from rankport.protos.errors import BundleError, InvalidRequest
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.bundle_samples import SPECIAL, VOCAB_SIZE, tokenizer_json


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(tokenizer_json())
    return Tokenizer.from_file(file)


def test_a_text_with_what_no_token_stands_for_is_named() -> None:
    """Where a model has no token for what is unknown the library raises: it was an internal error."""
    words = tokenizers.Tokenizer(models.WordLevel({"red": 0, "shoes": 1}))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer = Tokenizer(words)
    assert tokenizer.encode_batch(["red shoes"])[0].tolist() == [0, 1]
    with pytest.raises(InvalidRequest, match=r"^'red boots': holds what the tokenizer has no token for"):
        tokenizer.encode_batch(["shoes", "red boots", "blue"])


def test_saved_truncation_padding_and_template_are_off(tokenizer: Tokenizer) -> None:
    long, short, empty = tokenizer.encode_batch(["red green blue shoes boots", "red", ""])
    assert long.tolist() == [6, 7, 8, 9, 10]
    assert short.tolist() == [6]
    assert empty.tolist() == []
    assert {ids.dtype.name for ids in (long, short, empty)} == {"int64"}


@pytest.mark.parametrize("name", SPECIAL)
def test_text_never_becomes_a_special_token(tokenizer: Tokenizer, name: str) -> None:
    ids = tokenizer.encode_batch([f"red {name} shoes"])[0]
    special = {tokenizer.token_id(other) for other in SPECIAL if other != "[UNK]"}
    assert not special & set(ids.tolist())


_PIECES = [
    ("<unk>", 0.0),
    ("<s>", 0.0),
    ("</s>", 0.0),
    *((piece, -4.0) for piece in ("▁", "a", "s", "<", "/", ">")),
]
_NUMBERED = {name: place for place, (name, _) in enumerate(_PIECES)}


@pytest.mark.parametrize(
    ("model", "splits"),
    [
        (models.Unigram(_PIECES, 0, byte_fallback=False), pre_tokenizers.Metaspace(prepend_scheme="first")),
        (models.BPE(_NUMBERED, [], unk_token="<unk>", ignore_merges=True), pre_tokenizers.WhitespaceSplit()),
        (models.WordPiece(_NUMBERED, unk_token="<unk>"), pre_tokenizers.WhitespaceSplit()),
    ],
    ids=["unigram", "bpe", "word-piece"],
)
def test_a_model_makes_no_special_token_of_its_name(
    model: models.Model, splits: pre_tokenizers.PreTokenizer
) -> None:
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = splits  # type: ignore[assignment]
    inner.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    inner.add_special_tokens(["<unk>", "<s>", "</s>", "<new>"])
    inner.add_tokens([tokenizers.AddedToken("SSSS", normalized=True)])
    tokenizer = Tokenizer(inner)
    texts = ["a </s> a", "a", "<s>a</s>", "a<<s>>s ssss", "a\u30a2 </s>"]
    runs = tokenizer.encode_batch(texts)
    assert not {1, 2} & set(np.concatenate(runs).tolist())
    assert runs[1].tolist() == [_NUMBERED["a"]] or runs[1].tolist() == [_NUMBERED["▁"], _NUMBERED["a"]]
    assert tokenizer.vocab_size - 1 in runs[3]  # the added token, spelled as the normalizer leaves it
    assert [run.tolist() for run in runs] == [tokenizer.encode_batch([text])[0].tolist() for text in texts]
    assert [spans.ids.tolist() for spans in tokenizer.encode_spans(texts)] == [run.tolist() for run in runs]
    placed = tokenizer.encode_word_places([text.split() for text in texts])
    assert not {1, 2} & set(placed.ids.ids.tolist())
    assert 2 in tokenizer.matching_special().encode_batch(["a</s>"])[0]


def test_a_vocabulary_may_have_gaps() -> None:
    inner = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "a": 9, "[SEP]": 7}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    inner.add_special_tokens(["[UNK]", "[SEP]"])
    assert [ids.tolist() for ids in Tokenizer(inner).encode_batch(["a [SEP]", "a"])] == [[9, 0, 0], [9]]


def test_a_text_has_the_same_tokens_each_time_whatever_the_file_says_of_dropout() -> None:
    merges = [("a", "b"), ("ab", "ab")]
    inner = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2, "abab": 3}, merges, dropout=0.9))
    tokenizer = Tokenizer(inner)
    assert {tuple(tokenizer.encode_batch(["abab" * 9])[0].tolist()) for _ in range(20)} == {(3,) * 9}


def test_matching_special_reads_special_tokens_and_leaves_the_original_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.matching_special().encode_batch(["red[SEP]"])[0].tolist() == [6, 2]
    assert 2 not in tokenizer.encode_batch(["red[SEP]"])[0]


def test_vocabulary_is_looked_up_by_exact_name(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_id("[SEP]") == 2
    assert tokenizer.token_id("[sep]") is None
    assert tokenizer.vocab_size == VOCAB_SIZE == len(set(tokenizer.vocabulary()))
    assert tokenizer.special_tokens() == SPECIAL


def test_decode_keeps_special_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode([1, 6, 9, 2]) == "[CLS] red shoes [SEP]"


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"version": "1.0"'])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json: not a readable"):
        Tokenizer.from_file(file)
    with pytest.raises(BundleError, match=r"absent\.json: not a readable"):
        Tokenizer.from_file(tmp_path / "absent.json")


def test_threads_get_the_ids_of_one_thread(tokenizer: Tokenizer) -> None:
    batches = [["red green"] * size + ["blue"] for size in range(1, 30)]
    alone = [[ids.tolist() for ids in tokenizer.encode_batch(batch)] for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(tokenizer.encode_batch, batches))
    assert [[ids.tolist() for ids in batch] for batch in together] == alone


def test_a_fork_after_a_batch_prints_no_warning(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json())
    script = (
        "import os, sys\n"
        "from rankport.runtime.prompt.tokenizer import Tokenizer\n"
        "tokenizer = Tokenizer.from_file(sys.argv[1])\n"
        "tokenizer.encode_batch(['red green'] * 100)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(len(tokenizer.encode_batch(['blue shoes'])[0]))\n"
        "assert 'TOKENIZERS_PARALLELISM' not in os.environ\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    command = [
        sys.executable,
        "-W",
        "ignore::DeprecationWarning",
        "-c",
        script,
        str(tmp_path / "tokenizer.json"),
    ]
    unsaid = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=unsaid)
    assert (done.returncode, done.stderr) == (2, "")
