"""A tokenizer that transformers' class rebuilds is told from the one of the file."""

import json
from pathlib import Path

import pytest
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from rankport.exporters.checkpoints.forms.skeleton import skeleton
from rankport.exporters.checkpoints.own_tokenizer import own_tokenizer, reads_otherwise, writes_otherwise
from rankport.exporters.export import export
from rankport.protos.errors import CheckpointError, ParityError
from support import checkpoints, text_tokenizers
from support.reading import pair_encoders

_SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")


def deberta_tokenizer(folder: Path) -> Path:
    """Writes the files of a DeBERTa-v3 as it is published: compatibility forms are taken apart by tokenizer.json."""
    pieces = [*_SPECIAL, "▁", *"abcdefghijklmnopqrstuvwxyzN12⁄"]
    tokenizer = Tokenizer(
        models.Unigram([(piece, 0.0 if piece in _SPECIAL else -1.0) for piece in pieces], 3)
    )
    tokenizer.normalizer = normalizers.Sequence(  # type: ignore[assignment]
        [normalizers.Strip(), normalizers.NFKC(), normalizers.Replace(" {2,}", " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    config = {
        "tokenizer_class": "DebertaV2Tokenizer",
        "do_lower_case": False,
        "model_max_length": 32,
        **special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder / "tokenizer.json"


def test_a_class_that_reads_otherwise_is_named_with_both_ways_out(tmp_path: Path) -> None:
    file = deberta_tokenizer(tmp_path)
    said = reads_otherwise(file)
    assert said is not None
    assert "transformers' DebertaV2Tokenizer reads '½ ﬁ １' as" in said
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"})
    )
    assert reads_otherwise(file) is None  # the first way

    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    transformers.AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert reads_otherwise(file) is None  # the second


def test_a_token_that_the_file_lacks_is_named_and_saving_anew_adds_it(tmp_path: Path) -> None:
    """A tokenizer.json that was left as it was when tokens were added has such."""
    checkpoints.tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    listed = {"40": {"content": "<a_0>", "special": False}, "41": {"content": "<sep>", "special": True}}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": listed}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    said = reads_otherwise(tmp_path / "tokenizer.json")
    assert said is not None
    assert "transformers reads '<a_0>' as one token" in said
    assert "1 such token in all" in said
    transformers.AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert reads_otherwise(tmp_path / "tokenizer.json") is None


@pytest.mark.parametrize(
    ("split", "text"),
    [
        (text_tokenizers.QWEN_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|"), "2024"),
        (text_tokenizers.QWEN_SPLIT.replace(r"\p{L}+", r"[\p{L}\p{M}]+"), "สั"),
    ],
)
def test_splits_of_digits_and_of_marks_are_compared(split: str, text: str, tmp_path: Path) -> None:
    """A file with splits of its own (Qwen 3.5's of marks) under a class that builds Qwen 2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()  # type: ignore[assignment]
    by_split = pre_tokenizers.Split(Regex(split), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([by_split, to_bytes])  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [text] * 9, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    said = reads_otherwise(tmp_path / "tokenizer.json")
    assert said is not None
    assert f"transformers' Qwen2Tokenizer reads {text!r} as" in said


def test_of_a_class_that_reads_words_in_boxes_alone_the_file_counts(tmp_path: Path) -> None:
    """LayoutLMv3's refuses a text, with which its export broke."""
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    saved = text_tokenizers.saved("byte-level", special=special)
    (tmp_path / "tokenizer.json").write_text(saved)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LayoutLMv3Tokenizer"}')
    assert reads_otherwise(tmp_path / "tokenizer.json") is None
    expected = Tokenizer.from_str(saved).encode("red shoes").ids
    assert own_tokenizer(tmp_path / "tokenizer.json")("red shoes")["input_ids"] == expected


def spaces_taken_away(folder: Path) -> Path:
    """Writes the files of a T5 as transformers 4 saved it."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *"abdehijoptvy'5,.!"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], 2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    tokenizer.decoder = decoders.Metaspace()  # type: ignore[assignment]
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder / "tokenizer.json"


def test_spaces_that_a_writer_takes_away_are_told(tmp_path: Path) -> None:
    file = spaces_taken_away(tmp_path)
    said = writes_otherwise(file)
    assert said is not None
    assert (
        "writes the tokens of 'it , too .' as 'it, too.', and a bundle, by tokenizer.json, as 'it , too .'"
        in said
    )
    assert said.endswith("set it to false, or take them away from the bundle's texts")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert writes_otherwise(file) is None


def test_an_export_of_what_writes_warns_of_it(tmp_path: Path) -> None:
    folder = checkpoints.causal_lm(tmp_path / "c", "llama", tokenizer=True)
    spaces_taken_away(folder)
    steps: list[str] = []

    def stop(step: str) -> None:
        steps.append(step)
        if step == "tracing the graphs":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        export(folder, tmp_path / "out", kind="generator", on_progress=stop)
    assert any("clean_up_tokenization_spaces" in step for step in steps)


def test_one_that_cannot_be_loaded_says_nothing(tmp_path: Path) -> None:
    file = deberta_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    assert reads_otherwise(file) is None


def test_a_pair_that_the_class_reads_otherwise_is_refused_for_that_reason(tmp_path: Path) -> None:
    folder = pair_encoders.pair_classifier(tmp_path / "deberta", num_labels=1, vocab_size=64)
    deberta_tokenizer(folder)
    warnings: list[str] = []
    with pytest.raises(ParityError, match=r"the pair .* transformers' DebertaV2Tokenizer reads '½ ﬁ １' as"):
        export(folder, tmp_path / "out", kind="cross-encoder", on_progress=warnings.append)
    assert any(line.startswith("warning: tokenizer: transformers' DebertaV2") for line in warnings)


def test_code_of_the_folder_is_not_run_even_where_its_owner_is_at_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers asks, unless it is told not to trust, and runs it where the answer is y."""
    file, ran = deberta_tokenizer(tmp_path), tmp_path / "ran"
    code = "from transformers import PreTrainedTokenizerFast as Own\nfrom pathlib import Path\n"
    (tmp_path / "own.py").write_text(f"{code}Path({str(ran)!r}).touch()\n")
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(own))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(CheckpointError, match="transformers cannot load this tokenizer"):
        own_tokenizer(file)
    config = transformers.CLIPVisionConfig()  # of no causal LM
    config.auto_map = {"AutoModelForSequenceClassification": "own.Own"}
    config.name_or_path = str(tmp_path)
    with pytest.raises(CheckpointError, match="cannot build a clip_vision_model model"):
        skeleton(config, "classification_head")
    assert not ran.exists()
