"""The README's blocks run from a clone in the order given; what is not run is listed here with the reason.

Stand-ins keep it short: tiny checkpoints where the README names trained ones, some rows of what `make demo` writes, a
free port.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.esco.dataset import Dataset
from examples.esco.demo import server
from examples.esco.evaluate import write_items, write_judged_requests
from rankport.runtime.kinds.table import open_bundle
from support import sentence_folders
from support.cli import rankport

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MINILM = "$(python -m examples.esco.minilm)"

NOT_RUN = {
    r"make (demo|test)": "takes minutes: the demo's steps are those of the block that is run, at full size",
    r"pip install": "needs a network, and would change the environment of the tests",
    r"\. \.venv/bin/activate": "names the environment that `make demo` makes",
    r"rankport export ADAPTER": "the user's own adapter: tests/exporters/checkpoints/test_adapter_export.py",
    r"rankport export W4A16": "the user's own low bits: tests/exporters/quantization/test_quantized_bundles.py",
    r"rankport export RANKER .*--quantize": "the user's own: tests/exporters/quantization/test_quantized_export.py",
    r"rankport audit tokens": "the user's own vocabulary: tests/sdk/cli/commands/release/test_audit.py",
    r"rankport ground": "the user's own vocabulary: tests/sdk/cli/commands/release/test_ground.py",
    r"rankport export RANKER .*--target": "the user's own ranker: tests/exporters/test_several_targets.py",
    r"rankport serve .*--http-port": "a server that stays: tests/docs/test_http_page.py, runtime/server/observing",
    r"curl ": "needs that server: tests/docs/test_http_page.py, tests/runtime/server/observing/test_metrics.py",
    r"rankport models": "needs that server: tests/sdk/cli/commands/serving/test_models.py",
    r"rankport loadtest": "takes minutes, and needs that server: tests/sdk/cli/commands/serving/test_loadtest.py",
    r"rankport serve --config": "the user's own settings: tests/sdk/cli/test_settings.py",
    r"rankport (serve|encode) .*--device cuda": "needs an NVIDIA GPU",
    r"rankport inspect trt": "a bundle with plans: tests/runtime/backends/tensorrt/test_build.py",
}
"""Lines of the README by pattern, and why each is not run here."""


def blocks(language: str) -> list[list[str]]:
    """The blocks of a language, each as the commands in it."""
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    joined = [re.sub(r"\\\n\s*", "", block).splitlines() for block in found]
    return [[line for line in block if line.strip() and not line.strip().startswith("#")] for block in joined]


LINES = [line for block in blocks("bash") for line in block]
RUN = [line for line in LINES if not any(re.match(pattern, line) for pattern in NOT_RUN)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, ranker_checkpoint: Path) -> Iterator[Path]:
    """A folder with what a clone has after `make demo`, with stand-ins for what is large. The working directory."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ranker_checkpoint, folder / "examples" / "esco" / "checkpoint")
    shutil.copy(ROOT / "examples" / "esco" / "prompt.toml", folder / "examples" / "esco")
    sentence_folders.pooled(sentence_folders.bert(tmp_path_factory.mktemp("bert")), folder / "minilm")
    dataset = Dataset.load()
    queries = dataset.split("test")[:2]
    wanted = {"occ0492", "occ1809"}.union(*(query.item_ids for query in queries))
    demo = folder / "build" / "demo"
    demo.mkdir(parents=True)
    write_items([item for item in dataset.items if item.id in wanted], demo / "items.csv")
    write_judged_requests(queries, demo / "judged.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def words(line: str, clone: Path) -> list[str]:
    return shlex.split(line.replace(MINILM, str(clone / "minilm")), comments=True)[1:]


def test_every_line_is_run_or_said_why_not() -> None:
    assert [pattern for pattern in NOT_RUN if not any(re.match(pattern, line) for line in LINES)] == []
    assert [line for line in RUN if not line.startswith("rankport ")] == []
    assert [line.split()[1] for line in RUN] == [
        *("export", "export", "encode", "verify", "serve", "score"),
        *("token", "doctor"),
    ]


def test_the_readme_is_one_page() -> None:
    assert len(README.splitlines()) <= 215
    assert len(README) <= 16_300


def test_what_the_readme_names_is_in_a_clone() -> None:
    named = {
        word for line in RUN for word in shlex.split(line, comments=True) if word.startswith("examples/")
    }
    assert named == {"examples/esco/checkpoint", "examples/esco/prompt.toml"}
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert f"python -m {re.search(r'python -m ([a-z.]+)', MINILM)[1]}" in README  # type: ignore[index]


@pytest.mark.usefixtures("traces")
def test_the_blocks_run_in_their_order(clone: Path) -> None:
    serve = next(index for index, line in enumerate(RUN) if line.startswith("rankport serve"))
    for line in RUN[:serve]:
        done = rankport(*words(line, clone))
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert open_bundle(clone / "ranker.bundle").manifest.name == "ranker"
    _, *served, port, number = words(RUN[serve], clone)
    assert port == "--port"
    with server(*served) as address:
        scored = rankport(
            *(word.replace(f"localhost:{number}", address) for word in words(RUN[serve + 1], clone))
        )
    assert scored.returncode == 0, scored.stderr
    assert "occ0492" in scored.stdout
    for line in RUN[serve + 2 :]:
        assert rankport(*words(line, clone)).returncode == 0, line
    check_python_block()


def check_python_block() -> None:
    """Runs the README's Python after its commands, in the same folder."""
    (lines,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile("\n".join(lines), "README.md", "exec"), names)
    result, ranker = names["result"], names["ranker"]
    try:
        assert [str(status) for status in result.status] == ["ok"] * 3  # type: ignore[attr-defined]
        assert result.scores.shape == (3,)  # type: ignore[attr-defined]
    finally:
        ranker.close()  # type: ignore[attr-defined]
