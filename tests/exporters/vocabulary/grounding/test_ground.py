"""Grounding trains the new rows and nothing else, resumes to the bit, and leaves a checkpoint that exports."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file

from rankport.exporters.export import export
from rankport.exporters.vocabulary.grounding.ground import ground
from rankport.exporters.vocabulary.grounding.options import GroundingOptions
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.kinds.ranker.ranker import Ranker
from rankport.runtime.server.server import Server
from rankport.sdk import Client
from support import checkpoints
from support.servers.serving import LOCAL

WORDS = checkpoints.WORDS[8:24]
TOKENS = [f"<{level}_{code}>" for level in "ab" for code in range(4)]
OPTIONS = GroundingOptions(epochs=4, batch_size=8, learning_rate=0.25, save_every_steps=3)


def write_pairs(file: Path) -> Path:
    """Two words a text; each word's group of four is one code."""
    pairs = [
        {"text": f"{one} {two}", "tokens": [f"<a_{i // 4}>", f"<b_{j // 4}>"]}
        for i, one in enumerate(WORDS)
        for j, two in enumerate(WORDS)
        if (i + j) % 4 == 0
    ]
    file.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return file


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs.jsonl")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    (tmp_path / "tokens.txt").write_text("\n".join(TOKENS) + "\n")
    return tmp_path / "tokens.txt"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return checkpoints.causal_lm(tmp_path / "c", "qwen3", tokenizer=True, tie_word_embeddings=True)


def rows_behind(tensor: torch.Tensor, first: int, count: int) -> torch.Tensor:
    """The table without the rows in question."""
    return torch.cat([tensor[:first], tensor[first + count :]])


@pytest.mark.parametrize(("tied", "dtype"), [(True, torch.float32), (False, torch.bfloat16)])
def test_only_the_new_rows_change_and_likelihood_rises(
    tied: bool, dtype: torch.dtype, pairs: Path, tokens: Path, tmp_path: Path
) -> None:
    source = checkpoints.causal_lm(tmp_path / "c", "qwen3", tokenizer=True, tie_word_embeddings=tied)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
    model.save_pretrained(source)
    report = ground(source, pairs, tmp_path / "out", add=tokens, options=OPTIONS)
    before, after = (load_file(folder / "model.safetensors") for folder in (source, tmp_path / "out"))
    assert before.keys() == after.keys()
    tables = {"model.embed_tokens.weight", "lm_head.weight"} & after.keys()
    assert len(tables) == (1 if tied else 2)
    first = len(checkpoints.WORDS)  # the rows behind the tokenizer's own tokens were padding
    for name, tensor in before.items():
        assert after[name].dtype == dtype
        if name in tables:
            assert torch.equal(rows_behind(after[name], first, 8), rows_behind(tensor, first, 8))
            assert not torch.equal(after[name], tensor)
        else:
            assert torch.equal(after[name], tensor)
    likelihood = report.figures["held_out_log_likelihood"]["text_to_tokens"]
    assert likelihood["after"] > likelihood["before"] + 0.5
    assert json.loads((tmp_path / "out" / "ground.json").read_text()) == json.loads(
        json.dumps(report.figures, allow_nan=False)
    )
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "config.json",
        "generation_config.json",
        "ground.json",
        "model.safetensors",
        "tokenizer.json",
    }


@pytest.mark.parametrize("tied", [True, False])
def test_a_full_table_grows_and_shards_stay_shards(
    tied: bool, pairs: Path, tokens: Path, tmp_path: Path
) -> None:
    words = len(checkpoints.WORDS)
    source = checkpoints.causal_lm(
        tmp_path / "c", "qwen3", tokenizer=True, tie_word_embeddings=tied, vocab_size=words
    )
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(source)
    (source / "model.safetensors").unlink()
    model.save_pretrained(source, max_shard_size="20KB")
    out = tmp_path / "out"
    ground(source, pairs, out, add=tokens, options=GroundingOptions(epochs=1))
    assert {file.name for file in out.glob("*.safetensors")} == {f.name for f in source.glob("*.safetensors")}
    assert json.loads((out / "config.json").read_text())["vocab_size"] == words + 8
    grown: Any = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert grown.get_input_embeddings().weight.shape == (words + 8, 32)
    assert (grown.get_output_embeddings().weight is grown.get_input_embeddings().weight) is tied
    assert torch.equal(grown.get_input_embeddings().weight[:words], model.get_input_embeddings().weight)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    sizes = [t.nbytes for file in out.glob("*.safetensors") for t in load_file(file).values()]
    assert index["metadata"]["total_size"] == sum(sizes)
    tokenizer = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    assert tokenizer.encode("nurse<a_0><b_3>", add_special_tokens=False).ids == [9, words, words + 7]


class Killed(BaseException):
    """What ends a run in the middle."""


def kill_at(step: str) -> Callable[[str], None]:
    def watch(message: str) -> None:
        if step in message:
            raise Killed

    return watch


@pytest.mark.parametrize("moment", ["epoch 1 of 4, step 2 ", "epoch 2 of 4, step 4 ", "writing"])
def test_a_killed_run_goes_on_to_the_same_rows(
    moment: str, checkpoint: Path, pairs: Path, tokens: Path, tmp_path: Path
) -> None:
    ground(checkpoint, pairs, tmp_path / "whole", add=tokens, options=OPTIONS)
    out = tmp_path / "killed"
    with pytest.raises(Killed):
        ground(checkpoint, pairs, out, add=tokens, options=OPTIONS, on_progress=kill_at(moment))
    assert not (out / "config.json").exists()
    with pytest.raises(InvalidRequest, match="unfinished run: go on with --resume"):
        ground(checkpoint, pairs, out, add=tokens, options=OPTIONS)
    other = GroundingOptions(epochs=9, batch_size=8, learning_rate=0.25, save_every_steps=3)
    with pytest.raises(InvalidRequest, match="made with epochs = 4, not 9"):
        ground(checkpoint, pairs, out, add=tokens, options=other, resume=True)
    ground(checkpoint, pairs, out, add=tokens, options=OPTIONS, resume=True)
    for name in ("model.safetensors", "ground.json", "config.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_folder_is_not_written_over(
    checkpoint: Path, pairs: Path, tokens: Path, tmp_path: Path
) -> None:
    for resume in (False, True):
        with pytest.raises(InvalidRequest, match="holds a checkpoint already"):
            ground(checkpoint, pairs, checkpoint, add=tokens, resume=resume)
    with pytest.raises(InvalidRequest, match="is not empty"):
        ground(checkpoint, pairs, tmp_path, add=tokens)


def test_rows_that_exist_are_grounded_anew(
    checkpoint: Path, pairs: Path, tokens: Path, tmp_path: Path
) -> None:
    short = GroundingOptions(epochs=0, init="mean", max_text_tokens=1)
    cut = ground(checkpoint, pairs, tmp_path / "mean", add=tokens, options=short)
    assert cut.figures["texts_cut"] == len(pairs.read_text().splitlines())  # all have two words
    report = ground(tmp_path / "mean", pairs, tmp_path / "grounded", options=OPTIONS)  # told by their names
    assert report.figures["first_new"] == len(checkpoints.WORDS)
    assert report.figures["added"] == 0
    assert report.tables[0].effective_rank_ratio > 0.3
    assert (tmp_path / "grounded" / "tokenizer.json").read_bytes() == (
        tmp_path / "mean" / "tokenizer.json"
    ).read_bytes()


def test_a_run_is_the_same_for_the_same_seed(
    checkpoint: Path, pairs: Path, tokens: Path, tmp_path: Path
) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        options = GroundingOptions(epochs=1, init="random", seed=seed)
        ground(checkpoint, pairs, tmp_path / name, add=tokens, options=options)
    one, again, other = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "again", "other")
    )
    assert one == again != other


def test_a_grounded_checkpoint_exports_and_is_served_by_its_new_tokens(
    checkpoint: Path, pairs: Path, tokens: Path, tmp_path: Path
) -> None:
    ground(checkpoint, pairs, tmp_path / "out", add=tokens, options=OPTIONS)
    first = len(checkpoints.WORDS)
    bundle = export(
        tmp_path / "out",
        tmp_path / "bundle",
        kind="ranker",
        labels=("<a_0>", "<a_3>"),
        max_prefix_tokens=40,
        max_item_tokens=24,
    )
    assert bundle.manifest.parity is not None
    assert max(mode.max_abs_error for mode in bundle.manifest.parity.modes) <= 1e-4
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with (
        Ranker.load(bundle.path) as ranker,
        Server({"ranker": ranker}, LOCAL) as server,
        Client(server.address, model="ranker") as client,
    ):
        logits = ranker.score("nurse<b_1>", ["<a_1> data", [20]]).logits
        served = client.score("nurse<b_1>", ["<a_1> data", [20]]).logits
    sequences = [[1, 9, first + 5, first + 1, 16, 2], [1, 9, first + 5, 20, 2]]  # framed by [BOS] and [EOS]
    with torch.no_grad():
        wanted = [model(torch.tensor([ids])).logits[0, -1, [first, first + 3]] for ids in sequences]
    torch.testing.assert_close(torch.from_numpy(logits), torch.stack(wanted), atol=1e-4, rtol=0)
    np.testing.assert_allclose(served, logits, atol=1e-5)


BAD_PAIRS: dict[str, tuple[str, str]] = {
    "no json": ("nurse\n", "line 1 is not JSON"),
    "another field": ('{"text": "nurse", "ids": [1]}\n', "line 1: must be"),
    "no text": ('\n{"text": " ", "tokens": ["<a_0>"]}\n', "line 2: text is ' '"),
    "no tokens": ('{"text": "nurse", "tokens": []}\n', r"line 1: tokens is \[\]"),
    "one pair": ('{"text": "nurse", "tokens": ["<a_0>"]}\n', "holds 1 pair"),
    "unknown token": (
        '{"text": "nurse", "tokens": ["<c_9>"]}\n' * 2,
        "'<c_9>', which is not in the tokenizer",
    ),
    "old token": (
        '{"text": "nurse", "tokens": ["yes"]}\n' * 2,
        "'yes', which has id 4; new tokens have ids 36 to 43",
    ),
}


@pytest.mark.parametrize("reason", BAD_PAIRS)
def test_bad_pairs_are_named_by_line(reason: str, checkpoint: Path, tokens: Path, tmp_path: Path) -> None:
    content, message = BAD_PAIRS[reason]
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(InvalidRequest, match=message):
        ground(checkpoint, tmp_path / "bad.jsonl", tmp_path / "out", add=tokens)
    assert not (tmp_path / "out").exists()


BAD_TOKENS: dict[str, tuple[str, str]] = {
    "there already": ("<a_0>\nnurse\n", "'nurse' is in the tokenizer already as 9"),
    "twice": ("<a_0>\n<a_0>\n", "names '<a_0>' twice"),
    "empty line": ("<a_0>\n\n<a_1>\n", "line 2: '' is empty"),
    "one": ("<a_0>\n", "names 1 token"),
}


@pytest.mark.parametrize("reason", BAD_TOKENS)
def test_bad_tokens_are_named(reason: str, checkpoint: Path, pairs: Path, tmp_path: Path) -> None:
    content, message = BAD_TOKENS[reason]
    (tmp_path / "bad.txt").write_text(content)
    with pytest.raises(InvalidRequest, match=message):
        ground(checkpoint, pairs, tmp_path / "out", add=tmp_path / "bad.txt")


def test_models_that_cannot_be_grounded_say_why(pairs: Path, tokens: Path, tmp_path: Path) -> None:
    classifier = checkpoints.classifier(tmp_path / "head", "qwen3", tokenizer=True)
    with pytest.raises(CheckpointError, match="only a causal LM is grounded"):
        ground(classifier, pairs, tmp_path / "out", add=tokens)
    bare = checkpoints.causal_lm(tmp_path / "bare", "qwen3")
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        ground(bare, pairs, tmp_path / "out", add=tokens)
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(CheckpointError, match=r"is quantized \(gptq\): ground the original"):
        ground(bare, pairs, tmp_path / "out", add=tokens)


@pytest.mark.parametrize(
    ("option", "value"), [("epochs", -1), ("batch_size", 0), ("learning_rate", 0.0), ("held_out", 1.0)]
)
def test_an_option_out_of_range_is_named_by_its_flag(option: str, value: float) -> None:
    with pytest.raises(InvalidRequest, match=f"--{option.replace('_', '-')} is {value}"):
        GroundingOptions(**{option: value})  # type: ignore[arg-type]
