"""`Tokenizer`: ids depend on the text alone."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rankport.protos.errors import BundleError
from rankport.runtime.prompt.tokenizer import Tokenizer
from support.bundle_samples import SPECIAL, VOCAB_SIZE, tokenizer_json


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    file = tmp_path / "tokenizer.json"
    file.write_bytes(tokenizer_json())
    return Tokenizer.from_file(file)


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
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "")
