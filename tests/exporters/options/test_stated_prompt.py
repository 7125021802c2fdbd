"""What a checkpoint folder says of its prompt stops an export without one, with the fix."""

import json
from pathlib import Path

import pytest

from rankport.exporters.export import export
from rankport.exporters.options.stated_prompt import chat_template_file, require_prompt
from rankport.protos.errors import CheckpointError, InvalidRequest

TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def folder_of(tmp_path: Path, files: dict[str, object], name: str = "checkpoint") -> Path:
    """Writes a folder of small files: texts as they are, the rest as JSON."""
    folder = tmp_path / name
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", {"chat_template": TEMPLATE}),
        ("tokenizer_config.json", {"chat_template": [{"name": "default", "template": TEMPLATE}]}),
        ("chat_template.jinja", TEMPLATE),
        ("chat_template.json", {"chat_template": TEMPLATE}),
        ("additional_chat_templates/rag.jinja", TEMPLATE),
        ("processor_config.json", {"chat_template": TEMPLATE}),
    ],
)
def test_a_chat_template_is_found_in_every_form(tmp_path: Path, file: str, content: object) -> None:
    folder = folder_of(tmp_path, {file: content})
    assert chat_template_file(folder) == folder / file
    with pytest.raises(InvalidRequest, match=rf"has a chat template \({Path(file).name}\).*--prompt bare"):
        require_prompt(folder, [folder])


@pytest.mark.parametrize(
    "files",
    [{}, {"tokenizer_config.json": {"chat_template": None}}, {"tokenizer_config.json": {"bos_token": "<s>"}}],
)
def test_without_a_template_no_prompt_is_asked_for(tmp_path: Path, files: dict[str, object]) -> None:
    folder = folder_of(tmp_path, {"config.json": {"_name_or_path": "own/model"}} | files)
    assert chat_template_file(folder) is None
    require_prompt(folder, [folder])


@pytest.mark.parametrize(
    ("name", "files", "preset"),
    [
        ("Qwen3-Reranker-0.6B", {"config.json": {}}, "qwen3-reranker"),
        ("tuned", {"config.json": {"_name_or_path": "BAAI/bge-reranker-v2-gemma"}}, "bge-gemma"),
        (
            "tuned",
            {"adapter_config.json": {"base_model_name_or_path": "Qwen/Qwen3-Reranker-4B"}},
            "qwen3-reranker",
        ),
        ("zerank-1-small", {"config.json": {}}, "zerank"),
        ("rankllama-v1-7b-lora-passage", {"adapter_config.json": {}}, "rankllama"),
        ("bge-reranker-v2.5-gemma2-lightweight", {"config.json": {}}, "bge-gemma2-lightweight"),
        ("tuned", {"README.md": "---\nlicense: x\n---\n# mxbai-rerank-large-v2\n"}, "mxbai"),
    ],
)
def test_a_known_family_is_told_its_preset(
    tmp_path: Path, name: str, files: dict[str, object], preset: str
) -> None:
    folder = folder_of(tmp_path, files, name)
    with pytest.raises(InvalidRequest, match=f"--prompt {preset} is its published prompt"):
        require_prompt(folder, [folder])


def test_the_base_of_an_adapter_speaks_too(tmp_path: Path) -> None:
    adapter = folder_of(tmp_path, {"adapter_config.json": {}}, "adapter")
    base = folder_of(tmp_path, {"chat_template.jinja": TEMPLATE}, "base")
    with pytest.raises(InvalidRequest, match=r"adapter' has a chat template \(chat_template.jinja\)"):
        require_prompt(adapter, [adapter, base])


def test_a_pair_encoder_is_called_a_kind_to_come(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, {"config.json": {"_name_or_path": "jinaai/jina-reranker-v2-base-multilingual"}}
    )
    with pytest.raises(
        InvalidRequest,
        match=r"jina-reranker-v2 is a pair encoder.* for a decoder of that name say its --prompt",
    ):
        require_prompt(folder, [folder])


def test_what_is_no_folder_is_left_to_the_loader(tmp_path: Path) -> None:
    require_prompt(tmp_path / "Qwen" / "Qwen3-Reranker-0.6B", [tmp_path / "Qwen" / "Qwen3-Reranker-0.6B"])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json is not readable JSON"):
        chat_template_file(folder_of(tmp_path, {"tokenizer_config.json": "{"}))


@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "Qwen3ForSequenceClassification"])
def test_an_export_stops_before_it_looks_for_weights(tmp_path: Path, architecture: str) -> None:
    files = {"config.json": {"architectures": [architecture]}, "chat_template.jinja": TEMPLATE}
    with pytest.raises(InvalidRequest, match="has a chat template"):
        export(folder_of(tmp_path, files), tmp_path / "b", kind="ranker", labels=("yes", "no"))
    with pytest.raises(InvalidRequest, match="'qwen4' is neither a file nor a preset"):
        export(folder_of(tmp_path, files), tmp_path / "b", kind="ranker", prompt="qwen4")
    # Bare is said: the next thing that is missing is told.
    with pytest.raises(CheckpointError):
        export(folder_of(tmp_path, files), tmp_path / "b", kind="ranker", prompt="bare")
