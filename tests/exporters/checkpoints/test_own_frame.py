"""Special tokens around a text that the tokenizer's owner puts, and tokenizer.json, which a bundle has, does not."""

import re
from pathlib import Path

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from rankport.exporters.checkpoints.own_frame import frame_doubts
from rankport.exporters.export import export
from rankport.exporters.options.prompts import framed_prompt
from rankport.runtime.bundle.manifest import Segment
from support import sentence_folders as folders

UNHEEDED = r"tokenizer_config.json says {} {}.* does not, .* the bundle has, <s> …, {}: .*\({}\)"


def doubts(folder: Path, *, ends: bool = True) -> list[str]:
    """Gives what is said of a text that is framed as tokenizer.json frames it."""
    file = folder / "tokenizer.json"
    return list(frame_doubts(file, framed_prompt(file).prompt.item, ends=ends))


def unframed(folder: Path) -> Path:
    """Takes the frame out of tokenizer.json, which BertTokenizer puts whatever the file says."""
    folders.change(folder, "tokenizer.json", post_processor=None)
    folders.change(folder, "tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=False)
    return folder


def llama(folder: Path, **config: object) -> Path:
    """Writes a tokenizer that puts `<s>` before a text, as Llama's do."""
    special = ["<unk>", "<s>", "</s>"]
    words = models.BPE(
        {word: place for place, word in enumerate([*special, *"▁ajob"])}, [], unk_token="<unk>"
    )
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    tokenizer.add_special_tokens(special)
    frame = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.post_processor = frame  # type: ignore[assignment]
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": {"content": "</s>"}}
    folders.write(folder, "tokenizer_config.json", {**named, "unk_token": "<unk>", **config})
    return folder


def test_a_class_that_frames_otherwise_is_named_with_both_ways_out(tmp_path: Path) -> None:
    folder = folders.bert(tmp_path / "c")
    assert doubts(folder) == []
    (said,) = doubts(unframed(folder))
    assert (
        "BertTokenizer puts [CLS] … [SEP] around a text, and tokenizer.json, whose frame the bundle has, nothing"
        in said
    )
    folders.change(folder, "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    assert doubts(folder) == []  # the first way

    transformers.AutoTokenizer.from_pretrained(unframed(folder)).save_pretrained(folder)
    assert doubts(folder) == []  # the second


def test_an_end_that_the_code_of_a_model_puts_is_told_until_the_file_puts_it(tmp_path: Path) -> None:
    folder = llama(tmp_path / "c", eos_token="</s>")
    folders.write(folder, "config.json", {"model_type": "nvembed", "add_eos": True})
    (said,) = doubts(folder)
    assert "NV-Embed-v2 puts </s> behind each text" in said
    assert "which the bundle has, <s> …, lacks it: write the file anew with LlamaTokenizer." in said
    assert doubts(folder, ends=False) == []
    folders.write(folder, "config.json", {"model_type": "nvembed", "add_eos": False})
    assert doubts(folder) == []
    folders.write(folder, "config.json", {"model_type": "nvembed"})
    made = transformers.LlamaTokenizer.from_pretrained(folder, add_bos_token=True, add_eos_token=True)
    made.save_pretrained(folder)
    assert doubts(folder) == []  # the way out


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"add_eos_token": True},
            ("add_eos_token", "true", "lacks </s>", ".*add_bos_token=True, add_eos_token=True"),
        ),
        (
            {"add_bos_token": False, "add_eos_token": False},
            ("add_bos_token", "false", "has <s>", ".*add_bos_token=False.*"),
        ),
        ({"add_bos_token": True, "add_eos_token": False}, None),
        (
            {"add_eos_token": True, "tokenizer_class": "PreTrainedTokenizerFast"},
            None,
        ),  # which never heeded it
        (
            {
                "add_eos_token": True,
                "tokenizer_class": "Qwen2Tokenizer",
                "auto_map": {"AutoTokenizer": ["tokenization_qwen.Qwen2Tokenizer", "own.Fast"]},
            },
            (
                "add_eos_token",
                "true, which code that its auto_map names may heed",
                "lacks </s>",
                ".*add_eos_token=True",
            ),
        ),
    ],
)
def test_a_word_on_the_frame_that_nothing_heeds_any_more_is_told(
    config: dict[str, object], said: tuple[str, ...] | None, tmp_path: Path
) -> None:
    """e5-mistral-7b-instruct and gte-Qwen2 are published so: their last state is read at the token that lacks."""
    folder = llama(tmp_path / "c", **config)
    if said is None:
        assert doubts(folder) == []
        return
    (told,) = doubts(folder)
    assert re.search(UNHEEDED.format(*said), told)


def test_the_end_of_a_text_that_goes_on_and_a_frame_of_its_own_are_in_no_doubt(tmp_path: Path) -> None:
    folder = llama(tmp_path / "c", add_eos_token=True)
    assert doubts(folder, ends=False) == []
    own = [Segment(special=["<s>"]), Segment(item=True), Segment(special=["</s>"])]
    assert list(frame_doubts(folder / "tokenizer.json", own, ends=True)) == []


def test_an_export_says_so(tmp_path: Path) -> None:
    folder, said = unframed(folders.bert(tmp_path / "c")), list[str]()

    def until_traced(step: str) -> None:
        said.append(step)
        if step == "tracing the graphs":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        export(folder, tmp_path / "b", kind="item-encoder", pooling="cls", on_progress=until_traced)
    assert [f"warning: {doubt}" for doubt in doubts(folder)] == [step for step in said if "warning" in step]


def test_types_of_one_texts_tokens_are_told_with_the_way_out(tmp_path: Path) -> None:
    """XLNet's last token is of a type of its own; a bundle's numbers were others in silence."""
    words = Tokenizer(models.BPE({"<s>": 0, "</s>": 1, "a": 2}, []))
    words.add_special_tokens(["<s>", "</s>"])
    words.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="$A </s> <s>:2", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    words.save(str(tmp_path / "tokenizer.json"))
    names = ["input_ids", "token_type_ids", "attention_mask"]
    stated: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names}
    folders.write(tmp_path, "tokenizer_config.json", stated)
    (said,) = doubts(tmp_path)
    assert "gives the tokens of a text the types [0, 0, 2]" in said
    folders.change(tmp_path, "tokenizer_config.json", model_input_names=["input_ids", "attention_mask"])
    assert doubts(tmp_path) == []
