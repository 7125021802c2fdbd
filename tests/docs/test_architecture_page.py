"""docs/architecture.md says what the tree has: files, names, floors, the code and the size of the toy kind."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\[`?([^\]`]+)`?\]\(([^)#]+)(?:#[^)]*)?\)", PAGE)
NAMED = [
    (name, file)
    for name, file in LINKS
    if file.endswith(".py") and not name.endswith(".py") and re.fullmatch(r"\w+(\.\w+)+", name)
]
TOY = ROOT / "tests" / "support" / "word_bag"
MATHS, SEAM = "# maths", "# the seam"


def test_every_file_is_there() -> None:
    assert [file for _, file in LINKS if not (ROOT / "docs" / file).exists()] == []


def names_in(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Maps the names that a module or a class defines to the body of each."""
    names: dict[str, list[ast.stmt]] = {}
    for node in body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                names[node.name] = node.body
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                names[name] = []
    return names


@pytest.mark.parametrize(("name", "file"), NAMED, ids=[name for name, _ in NAMED])
def test_every_name_is_in_its_file(name: str, file: str) -> None:
    place = ROOT / "docs" / file
    module, *path = name.split(".")
    assert module == place.stem
    body = ast.parse(place.read_text(encoding="utf-8")).body
    for part in path:
        assert part in names_in(body)
        body = names_in(body)[part]


def test_every_other_word_of_code_is_in_the_tree() -> None:
    files = [
        file for root in ("protos", "runtime", "exporters", "sdk") for file in (ROOT / root).rglob("*.py")
    ]
    tree = " ".join(file.read_text(encoding="utf-8") for file in [*files, ROOT / "Makefile"])
    known = set(re.findall(r"\w+", tree))
    prose = re.sub(r"```.*?```|\[[^\]]*\]\([^)]*\)", "", PAGE, flags=re.DOTALL)
    words = re.findall(r"`([^`\n]+)`", prose)
    assert [word for word in words if not set(re.findall(r"\w+", word)) <= known] == []


def floors(root: str) -> dict[str, int]:
    """The floors of a source root as import-linter checks them, the lowest 1."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [
        contract["layers"] for contract in contracts if contract.get("containers") == [f"rankport.{root}"]
    ]
    return {
        name.strip(): floor
        for floor, layer in enumerate(reversed(layers), start=1)
        for name in layer.split("|")
    }


@pytest.mark.parametrize("root", ["runtime", "exporters"])
def test_the_map_has_every_package_on_its_floor(root: str) -> None:
    part = PAGE.split(f"**[{root}](")[1].split("\n**[")[0]
    rows = re.findall(r"^\| (\d) \| (.*?) \|", part, re.MULTILINE)
    told = {name: int(floor) for floor, names in rows for name in re.findall(r"\[`(\w+)`\]", names)}
    assert told == floors(root)


@pytest.mark.parametrize("root", ["protos", "sdk"])
def test_the_map_names_every_module_of_the_flat_roots(root: str) -> None:
    part = PAGE.split(f"**[{root}](")[1].split("\n\n")[0]
    assert [name for name in floors(root) if f"`{name}`" not in part] == []


def test_its_code_is_that_of_the_toy() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in TOY.glob("*.py")).splitlines()
    shown = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)).splitlines()
    assert [line for line in shown if line and line not in code] == []


def test_the_size_of_the_toy_is_as_told_and_small() -> None:
    lines = [
        line for file in sorted(TOY.glob("*.py")) for line in file.read_text().splitlines() if line.strip()
    ]
    start, stop = (
        next(place for place, line in enumerate(lines) if line.startswith(mark)) for mark in (MATHS, SEAM)
    )
    told = re.search(r"takes (\d+) lines, (\d+) of them its maths: (\d+) lines of seam", PAGE)
    assert told is not None
    assert [int(number) for number in told.groups()] == [
        len(lines),
        stop - start,
        len(lines) - (stop - start),
    ]
    assert int(told[3]) <= 150


def test_it_is_short() -> None:
    assert len(PAGE.splitlines()) <= 175
    assert len(re.findall(r"^15\. ", PAGE, re.MULTILINE)) <= 2
    assert re.findall(r"^16\. ", PAGE, re.MULTILINE) == []
