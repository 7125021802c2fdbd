"""A folder of sentence-transformers that reads texts as messages of its chat template, as multimodal embedders do."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from rankport.exporters.checkpoints.checkpoint import load_checkpoint
from rankport.exporters.export import export
from rankport.exporters.kinds.classifier.options import ClassifierOptions
from rankport.exporters.kinds.classifier.prompt import classifier_prompt
from rankport.exporters.kinds.item_encoder.options import ItemEncoderOptions
from rankport.exporters.kinds.item_encoder.prompt import item_encoder_prompt
from rankport.exporters.options.prompts import ResolvedPrompt
from rankport.exporters.verify import verify
from rankport.protos.errors import CheckpointError, InvalidRequest
from rankport.runtime.bundle.manifest import Prompt, Segment
from rankport.runtime.kinds.item_encoder.item_encoder import ItemEncoder
from support import checkpoints, sentence_folders

OWN, SETTINGS = "config_sentence_transformers.json", "sentence_bert_config.json"
FORWARD = {"method": "forward", "method_output_name": "last_hidden_state"}
TEMPLATE = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nit: query.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}<|endoftext|>"
)
LIMIT = 100
TEXTS = [
    "A resistance welder sets up machines, and joins metal by heat and pressure.",
    "What does a nurse do?\n\nCares for patients. ",
    " Köchin & Söhne, 東京のコック; ½ of them",
    "<|im_end|>"[:-1],
    "welds, cuts and grinds, " * 40,  # over the limit
]
PROMPTS = {
    "query": "Given a job title, find occupations that fit.",
    "document": "An occupation:\n- as it is described",
}
Rows = NDArray[np.float32]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a decoder without a head, its last token's state, and a chat template."""
    folder = checkpoints.body(
        tmp_path_factory.mktemp("saved") / "c", "qwen3", vocab_size=512, max_position_embeddings=512
    )
    sentence_folders.chat_tokenizer(folder)
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    sentence_folders.state_modules(folder, *modules)
    width = load_checkpoint(folder, head="none").hidden_size
    pooling = {"embedding_dimension": width, "pooling_mode": "lasttoken", "include_prompt": False}
    sentence_folders.write(folder, "1_Pooling/config.json", pooling)
    settings = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": FORWARD, "message": FORWARD | {"format": "flat"}},
        "module_output_name": "token_embeddings",
        "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
        "max_seq_length": LIMIT,
    }
    sentence_folders.write(folder, SETTINGS, settings)
    own = {"model_type": "SentenceTransformer", "prompts": PROMPTS, "similarity_fn_name": "cosine"}
    sentence_folders.write(folder, OWN, own)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "c")
    return tmp_path / "c"


def resolved(folder: Path, prompt_name: str | None = None) -> ResolvedPrompt:
    source = load_checkpoint(folder, head="none")
    return item_encoder_prompt(source, ItemEncoderOptions(prompt_name=prompt_name))


def encoded(bundle: Path) -> Rows:
    with ItemEncoder.load(bundle) as encoder:
        return encoder.encode(TEXTS, truncation="truncate")[:, 0].astype(np.float32)


def test_the_prompt_is_what_the_template_makes_of_a_text(folder: Path) -> None:
    assert resolved(folder).prompt == Prompt(
        prefix=[],
        item=[
            Segment(special=["<|im_start|>"]),
            Segment(text="system\nit: query."),
            Segment(special=["<|im_end|>"]),
            Segment(text="\n"),
            Segment(special=["<|im_start|>"]),
            Segment(text="user\n"),
            Segment(item=True, joined=True),
            Segment(special=["<|im_end|>"]),
            Segment(text="\n"),
            Segment(special=["<|im_start|>"]),
            Segment(text="assistant\n"),
            Segment(special=["<|endoftext|>"]),
        ],
    )
    assert not any("is not used" in note for note in resolved(folder).notes)


@pytest.mark.parametrize("name", [None, "query", "document"])
def test_embeddings_are_those_of_sentence_transformers(
    name: str | None, folder: Path, tmp_path: Path
) -> None:
    export(folder, tmp_path / "out", kind="item-encoder", prompt_name=name, output_dtype="float32")
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    encode = {None: model.encode, "query": model.encode_query, "document": model.encode_document}
    theirs: Rows = encode[name](TEXTS, batch_size=1)
    ours = encoded(tmp_path / "out")
    assert np.abs(ours - theirs).max() < 1e-5
    others = [other(TEXTS, batch_size=1) for known, other in encode.items() if known != name]
    assert min(np.abs(ours - other).max() for other in others) > 1e-3
    assert verify(tmp_path / "out", folder).failures == ()


def test_structured_messages_are_parts_with_a_type(folder: Path) -> None:
    flat = resolved(folder).prompt
    sentence_folders.change(folder, SETTINGS, modality_config={"message": FORWARD | {"format": "structured"}})
    (folder / "chat_template.jinja").write_text(TEMPLATE.replace("m.content", "m.content[0].text"))
    assert resolved(folder).prompt == flat


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages[0].role }}", "does not have the text once"),
        ("{{ messages[0].content }}, {{ messages[0].content }}", "does not have the text once"),
        ("{{ messages[0].content | trim }}.", r"makes other tokens of '  spaces around\\t'"),
        ("{{ messages[0].content }}\nSummary: ", r"has '\\nSummary: ' right behind a text, no special token"),
        ("{{ messages.nothing() }}", "cannot be rendered: "),
    ],
)
def test_a_template_that_no_prompt_says_is_refused(template: str, reason: str, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(
        CheckpointError, match=f"chat template, by which .* reads texts, {reason}.*: write the prompt"
    ):
        resolved(folder)


def test_a_template_that_reads_the_task_is_told(folder: Path) -> None:
    template = TEMPLATE.replace("<|endoftext|>", "{% if task == 'query' %}query{% endif %}<|endoftext|>")
    assert not any("told the task" in warning for warning in resolved(folder, "query").warnings)
    (folder / "chat_template.jinja").write_text(template)
    (warning,) = resolved(folder, "query").warnings
    assert "told the task query, as by encode_query of sentence-transformers; encode, as the" in warning
    plain = resolved(folder, "query").prompt
    told = {"chat_template": {"add_generation_prompt": True, "task": "query"}}
    sentence_folders.change(folder, SETTINGS, processing_kwargs=told)
    assert resolved(folder, "query").warnings == ()
    assert resolved(folder, "query").prompt != plain
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    asked = model.preprocess([TEXTS[0]], prompt=PROMPTS["query"], task="query")["input_ids"][0].tolist()
    assert asked[-2] == model.tokenizer.encode("query")[-1]


def test_a_cut_that_would_take_the_templates_own_tokens_is_refused(folder: Path) -> None:
    sentence_folders.change(folder, "tokenizer_config.json", truncation_side="left")
    with pytest.raises(CheckpointError, match=re.escape("set truncation_side to right")):
        resolved(folder)


def test_a_pair_has_no_messages(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="reads texts as messages of a chat template, which a pair's"):
        classifier_prompt(load_checkpoint(folder, head="none"), ClassifierOptions(texts="pair"))
