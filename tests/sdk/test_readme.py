"""What the README shows runs: its Python as it stands, and every option of its commands exists."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.store.store import TokenEntry, TokenSpec, TokenStore
from rankport.sdk.cli.app import command_tree

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_python_example_runs(mix_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairing = mix_bundle.manifest.pairing
    assert pairing is not None
    (tmp_path / "ranker.bundle").symlink_to(mix_bundle.path)
    with TokenStore.open(tmp_path / "tokens.lmdb", create=True) as store:
        spec = TokenSpec(tokens=1, hidden_size=mix_bundle.manifest.shape.hidden_size, dtype="float16")
        namespace = store.namespace(pairing.encoder_fingerprint, spec, create=True)
        tokens = np.full((1, spec.hidden_size), 0.1, np.float16)
        namespace.put_many([TokenEntry("occ0492", tokens, content_hash=b"0" * 16)])
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    result, ranker = names["result"], names["ranker"]
    try:
        assert [str(status) for status in result.status] == ["ok"] * 3  # type: ignore[attr-defined]
        assert result.scores.shape == (3,)  # type: ignore[attr-defined]
    finally:
        ranker.close()  # type: ignore[attr-defined]


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    inline = [
        shlex.split(text)
        for text in re.findall(r"`(rankport [a-z]+ [^`]*)`", README.read_text(encoding="utf-8"))
    ]
    return [line for line in (*words, *inline) if line and line[0] == "rankport"]


@pytest.mark.parametrize("line", commands(), ids=lambda line: line[1])
def test_every_command_and_option_shown_exists(line: list[str]) -> None:
    command, words = get_command(command_tree()), iter(line[1:])
    while hasattr(command, "get_command"):
        command = command.get_command(None, next(words))
    known = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("--") and word not in known] == []
