"""A bad line in any file of requests ends export and verify before a model is loaded, and names every such line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rankport.exporters.export import export
from rankport.exporters.verify import verify
from rankport.protos.errors import InvalidRequest, RankportError
from rankport.runtime.bundle.bundle import Bundle

GOOD = {"prefix": "data engineer", "items": ["nurse", "pilot"]}
WRONG_FIELD = {"prefix": {"jobtitle": "data engineer"}, "items": ["nurse"]}
LONG = {"prefix": "data " * 13, "items": ["nurse"]}


def written(path: Path, **columns: object) -> Path:
    rows = [
        row | {name: value[: len(row["items"])] for name, value in columns.items()}
        for row in (WRONG_FIELD, GOOD, LONG)
    ]  # type: ignore[index]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refused(call: Callable[..., object], *arguments: object, **options: object) -> tuple[str, list[str]]:
    """Gives the message of the refusal, and the steps that were begun before it."""
    steps: list[str] = []
    with pytest.raises(RankportError) as raised:
        call(*arguments, on_progress=steps.append, **options)
    assert isinstance(raised.value, InvalidRequest)
    return str(raised.value), steps


@pytest.mark.parametrize("option", ["judged", "reference", "calibration"])
def test_an_export_stops_before_the_checkpoint_is_loaded(
    option: str, ranker_checkpoint: Path, prompt_file: Path, tmp_path: Path
) -> None:
    columns = {"judged": {"gains": [1, 0]}, "reference": {"scores": [0.5, 0.25]}, "calibration": {}}[option]
    file = written(tmp_path / "requests.jsonl", **columns)
    options = {option: file} | ({"quantize": "int8"} if option == "calibration" else {})
    said, steps = refused(
        export, ranker_checkpoint, tmp_path / "b", kind="ranker", prompt=prompt_file, **options
    )
    assert steps == []
    assert "requests.jsonl line 1: prefix: fields missing query, unknown jobtitle" in said
    assert ("requests.jsonl line 3: prefix: segment 'query' has 13 tokens" in said) == (option == "judged")
    assert "line 2" not in said
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("option", ["judged", "reference"])
def test_verify_stops_before_the_checkpoint_is_loaded(
    option: str, mix_bundle: Bundle, ranker_checkpoint: Path, tmp_path: Path
) -> None:
    columns = {"judged": {"gains": [1, 0]}, "reference": {"scores": [0.5, 0.25]}}[option]
    file = written(tmp_path / "requests.jsonl", **columns)
    said, steps = refused(verify, mix_bundle.path, ranker_checkpoint, **{option: file})
    assert steps == []
    assert "line 1: prefix: fields missing" in said


def test_keys_are_looked_up_in_the_store_of_the_encoder(
    mix_bundle: Bundle, ranker_checkpoint: Path, tmp_path: Path
) -> None:
    from rankport.runtime.store.opening import open_store
    from rankport.runtime.store.token_spec import TokenSpec

    assert mix_bundle.manifest.pairing is not None
    with open_store(tmp_path / "tokens.lmdb", create=True) as store:
        spec = TokenSpec(tokens=1, hidden_size=mix_bundle.manifest.shape.hidden_size, dtype="float16")
        store.namespace(mix_bundle.manifest.pairing.encoder_fingerprint, spec, create=True)
    file = tmp_path / "judged.jsonl"
    rows = [{"prefix": "nurse", "items": ["pilot", {"key": f"occ{n}"}], "gains": [0, 1]} for n in range(2)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said, steps = refused(
        verify, mix_bundle.path, ranker_checkpoint, judged=file, store=tmp_path / "tokens.lmdb"
    )
    assert steps == []
    assert said.startswith("2 of 2 lines cannot be used:")
    assert "judged.jsonl line 2: item 1: no tokens of key 'occ1' under encoder" in said


def test_a_file_that_a_kind_has_no_use_for_is_refused(
    encoder_bundle: Bundle, encoder_checkpoint: Path, tmp_path: Path
) -> None:
    said, _ = refused(verify, encoder_bundle.path, encoder_checkpoint, judged=tmp_path / "none.jsonl")
    assert said == "--judged: a model of kind item-encoder has no use for it: leave it out"


def test_a_transform_without_a_reference_is_refused(encoder_bundle: Bundle, encoder_checkpoint: Path) -> None:
    said, _ = refused(verify, encoder_bundle.path, encoder_checkpoint, reference_transform="sigmoid")
    assert said == "--reference-transform sigmoid goes with --reference, whose scores it is of"
