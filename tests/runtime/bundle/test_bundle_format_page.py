"""docs/bundle-format.md says what the code does: its example loads, its fields and limits are the schema's."""

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from rankport.runtime.bundle import manifest
from rankport.runtime.bundle.files import MAX_PATH_CHARACTERS
from rankport.runtime.bundle.manifest_json import MAX_MANIFEST_BYTES
from rankport.runtime.kinds.table import KINDS
from rankport.runtime.prompt.prompt_file import load_prompt_file

PAGE = (Path(__file__).parents[3] / "docs" / "bundle-format.md").read_text()
PROTO = (Path(__file__).parents[3] / "protos" / "rankport" / "protos" / "v1" / "rankport.proto").read_text()
SCHEMA = [
    model for model in vars(manifest).values() if isinstance(model, type) and issubclass(model, BaseModel)
]


@pytest.mark.parametrize("model", SCHEMA, ids=lambda model: model.__name__)
def test_every_field_is_described(model: type[BaseModel]) -> None:
    assert [name for name in model.model_fields if f"`{name}`" not in PAGE] == []


def test_every_top_level_field_has_its_row_in_the_order_written() -> None:
    table = PAGE.split("## The manifest")[1].split("## Prompt")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(manifest.Manifest.model_fields)


def test_what_may_be_left_out_is_said_of_every_top_level_field() -> None:
    table = PAGE.split("## The manifest")[1].split("## Prompt")[0]
    types = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|.*default", table, re.MULTILINE))
    for name, field in manifest.Manifest.model_fields.items():
        if not field.is_required():
            assert ("or null" in types[name]) == (field.default is None), name


@pytest.mark.parametrize("name", ["DType", "Pooling"])
def test_every_allowed_value_is_named(name: str) -> None:
    assert [value for value in get_args(getattr(manifest, name)) if f"`{value}`" not in PAGE] == []


def test_every_kind_and_its_roles_are_named() -> None:
    words = {word for kind in KINDS for word in (kind.name, *kind.rules.roles)}
    assert [word for word in sorted(words) if f"`{word}`" not in PAGE and f'`"{word}"`' not in PAGE] == []


def test_the_messages_tell_every_kind_of_model_and_of_score() -> None:
    description = PROTO.split("message ModelDescription {")[1].split("string kind =")[0]
    response = PROTO.split("message ScoreResponse {")[1].split("}")[0]
    assert [kind.name for kind in KINDS if f'"{kind.name}"' not in description] == []
    score_kinds = get_args(manifest.Score.model_fields["kind"].annotation)
    assert [kind for kind in score_kinds if f'"{kind}"' not in response] == []


def test_the_stated_limits_are_those_of_the_code() -> None:
    assert f"at most {MAX_MANIFEST_BYTES // 1024**2} MiB" in PAGE
    assert f"at most {MAX_PATH_CHARACTERS}\n  characters" in PAGE


def test_the_example_prompt_file_loads(tmp_path: Path) -> None:
    prompts = (Path(__file__).parents[3] / "docs" / "prompts.md").read_text()
    example = re.search(r"```toml\n(.*?)```", prompts, re.DOTALL)
    assert example is not None
    (tmp_path / "prompt.toml").write_text(example[1])
    loaded = load_prompt_file(tmp_path / "prompt.toml")
    assert loaded.prompt.fields == ("query",)
    assert loaded.labels == ["yes", "no"]
