"""Tries by name and from files: found where they lie, refused by name or line, never one of another vocabulary."""

import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, NotFound, StoreError
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.config import EngineConfig
from rankport.runtime.kinds.generator.generator import Generator
from rankport.runtime.kinds.generator.tries.trie import TokenTrie
from rankport.runtime.kinds.generator.tries.trie_file import trie_of_file
from rankport.runtime.kinds.generator.tries.tries import Tries
from support.file_limits import files_of_at_most

NAMES = {"<a_0>": 3, "<a_1>": 4, "<b_0>": 5}


def saved(root: Path, name: str, keys: list[str]) -> None:
    rows = np.array([[4, 5 + place] for place in range(len(keys))])
    TokenTrie.of(keys, rows, 101).save(root / name)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tries")
    saved(folder, "movies", ["a", "b"])
    return folder


@pytest.fixture(scope="module")
def generator(generator_bundle: Bundle, root: Path) -> Iterator[Generator]:
    config = EngineConfig(threads=1, trie_root=str(root))
    with Generator.load(generator_bundle, config=config) as loaded:
        yield loaded


def test_a_trie_is_found_by_its_name(generator: Generator, root: Path) -> None:
    by_name = generator.search([1, 2], "movies")
    itself = generator.search([1, 2], TokenTrie.open(root / "movies"))
    assert by_name.keys == itself.keys
    np.testing.assert_array_equal(by_name.scores, itself.scores)


def test_another_trie_in_the_place_is_taken_up(tmp_path: Path) -> None:
    saved(tmp_path, "movies", ["a", "b"])
    tries = Tries(str(tmp_path))
    first = tries.named("movies")
    assert tries.named("movies") is first
    (tmp_path / "movies").rename(tmp_path / "old")
    saved(tmp_path, "movies", ["c"])
    assert tries.named("movies").keys_of(0) == ["c"]
    assert first.keys_of(0) == ["a"]  # a search under way goes on with its own


def test_a_trie_that_is_removed_is_let_go_when_another_one_is_opened(tmp_path: Path) -> None:
    tries, files = Tries(str(tmp_path)), []
    for day in ("monday", "tuesday", "friday"):
        saved(tmp_path, day, ["a", "b"])
        files.append(weakref.ref(tries.named(day).files))  # type: ignore[type-var]
        if day == "monday":
            shutil.rmtree(tmp_path / day)
    assert [each() is not None for each in files] == [False, True, True]


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("books", NotFound, "trie 'books': No such file or directory; there are movies"),
        ("../movies", InvalidRequest, r"trie is '\.\./movies': give its name"),
        ("", InvalidRequest, "trie is ''"),
    ],
)
def test_what_is_no_trie_of_the_folder_is_told(
    generator: Generator, name: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        generator.search([1], name)


def test_without_a_folder_no_name_is_known(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="serve --trie-root FOLDER"):
        Tries(None).named("movies")
    with pytest.raises(InvalidRequest, match=r"trie_root is .*none': give a folder that is there"):
        Tries(str(tmp_path / "none"))


def test_a_trie_of_more_tokens_than_the_model_has_is_refused(generator: Generator) -> None:
    trie = TokenTrie.of(["a"], np.array([[150]]), 200)
    with pytest.raises(InvalidRequest, match="made for 200 tokens: the bundle has 101"):
        generator.search([1], trie)


def test_a_file_gives_names_or_ids(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text(
        '{"key": "x", "tokens": ["<a_1>", "<b_0>"]}\n\n{"key": "y", "ids": [3, 5]}\n', encoding="utf-8"
    )
    trie = trie_of_file(file, NAMES.get, 101)
    assert (trie.count, trie.levels, trie.vocabulary) == (2, 2, 101)
    assert [trie.keys_of(leaf) for leaf in range(2)] == [["y"], ["x"]]
    assert [level.tolist() for level in trie.tokens] == [[3, 4], [5, 5]]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            '{"key": "y", "tokens": ["<a_9>", "<b_0>"]}',
            "line 2, key 'y': '<a_9>' is no token of the vocabulary",
        ),
        ('{"key": "y", "ids": [101, 3]}', "line 2, key 'y': 101 is no token: they are 0 to 100"),
        ('{"key": "y", "ids": [true, 3]}', "line 2, key 'y': True is no token"),
        ('{"key": "x", "ids": [3, 3]}', "line 2: key 'x' is given twice, first in line 1"),
        ('{"key": "y", "ids": [3]}', "line 2: 1 token, and 2 in line 1"),
        ('{"key": "y", "ids": []}', "line 2: a key is a text, and a sequence a list"),
        ('{"key": "y", "ids": [3, 3], "title": "z"}', 'line 2: give {"key": ..., "tokens": [...]}'),
        (r'{"key": "y\ud800", "ids": [3, 3]}', "is half of a character"),
        ("y", "line 2: no JSON"),
        ("[" * 100_000, "line 2: no JSON"),
    ],
)
def test_the_line_at_fault_is_named(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text('{"key": "x", "ids": [4, 5]}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(InvalidRequest) as failure:
        trie_of_file(file, NAMES.get, 101)
    assert told in str(failure.value)
    assert str(file) in str(failure.value)


def test_no_items_and_no_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InvalidRequest, match="empty has no items"):
        trie_of_file(tmp_path / "empty", NAMES.get, 101)
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        trie_of_file(tmp_path / "none", NAMES.get, 101)


def test_a_trie_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    trie = TokenTrie.of([f"key {number}" for number in range(1000)], np.full((1000, 2), 5), 101)
    with files_of_at_most(200), pytest.raises(StoreError, match="movies' cannot be written: "):
        trie.save(tmp_path / "movies")
    assert not list(tmp_path.iterdir())
    trie.save(tmp_path / "movies")
    assert [path.name for path in tmp_path.iterdir()] == ["movies"]


def test_the_folders_above_a_trie_are_made(tmp_path: Path) -> None:
    place = tmp_path / "tries" / "films" / "movies"
    TokenTrie.of(["a"], np.full((1, 2), 5), 101).save(place)
    assert TokenTrie.open(place).count == 1


@pytest.mark.parametrize("damage", ["cut", "written over"])
def test_a_trie_that_is_changed_under_a_generator_is_refused_by_its_file(
    generator: Generator, tmp_path: Path, damage: str
) -> None:
    saved(tmp_path, "movies", ["a", "b"])
    trie = TokenTrie.open(tmp_path / "movies")
    assert set(generator.search([1, 2], trie).keys) == {"a", "b"}
    path = tmp_path / "movies" / "tokens_1.npy"
    content = path.read_bytes()
    with path.open("r+b") as file:
        if damage == "cut":
            file.truncate(0)
        else:
            file.write(content[::-1])
    told = (
        rf"{path} was written over or cut .* of {len(content)}\): build a trie in another folder and rename"
    )
    with pytest.raises(StoreError, match=told):
        generator.search([1, 2], trie)


def test_a_trie_by_name_that_is_cut_is_refused_until_another_takes_its_place(tmp_path: Path) -> None:
    saved(tmp_path, "movies", ["a", "b"])
    tries = Tries(str(tmp_path))
    tries.named("movies")
    (tmp_path / "movies" / "items.npy").write_bytes(b"")
    with pytest.raises(StoreError, match=r"items\.npy was written over or cut"):
        tries.named("movies")
    (tmp_path / "movies").rename(tmp_path / "old")
    saved(tmp_path, "movies", ["c"])
    assert tries.named("movies").keys_of(0) == ["c"]
