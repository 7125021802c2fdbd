import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.runtime.store.store import TokenEntry, TokenNamespace, TokenSpec, TokenStore
from support.effort import scale

SPEC = TokenSpec(2, 4, "float16")
ENCODER = "a" * 64
HASH = b"0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.lmdb"


@pytest.fixture
def store(path: Path) -> Iterator[TokenStore]:
    with TokenStore.open(path, create=True) as store:
        yield store


@pytest.fixture
def namespace(store: TokenStore) -> TokenNamespace:
    return store.namespace(ENCODER, SPEC, create=True)


def tokens_of(number: int) -> NDArray[np.float16]:
    return np.full((2, 4), number, np.float16)


def entry(key: str, number: int = 0) -> TokenEntry:
    return TokenEntry(key, tokens_of(number), HASH)


def raw_put(path: Path, database: bytes, key: bytes, value: bytes) -> None:
    with lmdb.open(str(path), max_dbs=8) as env, env.begin(write=True) as txn:
        txn.put(key, value, db=env.open_db(database, txn=txn))


def test_databases_have_the_names_and_bytes_the_format_states(path: Path) -> None:
    with TokenStore.open(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("one")])
    with lmdb.open(str(path), max_dbs=8) as env, env.begin() as txn:
        meta = env.open_db(b"meta", txn=txn, create=False)
        assert list(txn.cursor(meta)) == [
            (b"format", b'{"format":"rankport-token-store","format_version":1}'),
            (b"namespace/" + ENCODER.encode(), b'{"dtype":"float16","hidden_size":4,"tokens":2}'),
        ]
        items = env.open_db(b"tokens/" + ENCODER.encode(), txn=txn, create=False)
        [(name, value)] = txn.cursor(items)
        assert name == b"\x00one"
        assert value[40:] == tokens_of(0).tobytes()


@settings(max_examples=scale(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=700), st.binary(min_size=16, max_size=16)
    )
)
def test_every_key_and_every_bit_of_its_tokens_come_back(
    namespace: TokenNamespace, contents: dict[str, bytes]
) -> None:
    namespace.delete_many(list(namespace.keys()))
    namespace.put_many(
        [
            TokenEntry(key, np.frombuffer(payload, np.float16).reshape(2, 4), payload)
            for key, payload in contents.items()
        ]
    )
    keys = list(contents)
    found = [tokens.tobytes() for tokens in namespace.get_many(keys) if tokens is not None]
    assert found == list(contents.values())
    assert namespace.content_hashes(keys) == list(contents.values())
    assert sorted(namespace.keys()) == sorted(keys)
    assert len(namespace) == len(keys)


def test_absent_keys_are_none_in_their_place(namespace: TokenNamespace) -> None:
    namespace.put_many([entry("b", 1)])
    first, second, third = namespace.get_many(["a", "b", "a" * 600])
    assert first is None
    assert third is None
    np.testing.assert_array_equal(second, tokens_of(1))
    assert namespace.content_hashes(["a", "b"]) == [None, HASH]
    assert namespace.info_many(["a"]) == [None]
    assert namespace.get_many([]) == []


def test_tokens_outlive_the_store_and_cannot_be_written(path: Path) -> None:
    with TokenStore.open(path, create=True) as store:
        namespace = store.namespace(ENCODER, SPEC, create=True)
        namespace.put_many([entry("a", 3)])
        [tokens] = namespace.get_many(["a"])
    assert tokens is not None
    np.testing.assert_array_equal(tokens, tokens_of(3))
    with pytest.raises(ValueError, match="read-only"):
        tokens[0, 0] = 1


def test_writing_again_replaces_tokens_hash_and_time(namespace: TokenNamespace) -> None:
    namespace.put_many([entry("a", 1)])
    before = datetime.now(UTC)
    namespace.put_many([TokenEntry("a", tokens_of(2), b"f" * 16)])
    [info] = namespace.info_many(["a"])
    assert info is not None
    assert info.content_hash == b"f" * 16
    assert before <= info.written_at <= datetime.now(UTC)
    np.testing.assert_array_equal(namespace.get_many(["a"])[0], tokens_of(2))
    assert len(namespace) == 1


def test_delete_counts_what_was_there(namespace: TokenNamespace) -> None:
    namespace.put_many([entry("a"), entry("b" * 600)])
    assert namespace.delete_many(["a", "a", "b" * 600, "c"]) == 2
    assert len(namespace) == 0
    assert namespace  # empty, but there


def test_keys_go_through_more_than_one_page_while_they_are_deleted(namespace: TokenNamespace) -> None:
    names = {f"{number:04d}" for number in range(2500)}
    namespace.put_many([entry(name) for name in names])
    seen: list[str] = []
    keys = namespace.keys()
    for key in keys:
        seen.append(key)
        if len(seen) % 400 == 0:
            namespace.delete_many(seen[-400:])
    namespace.delete_many(seen)
    assert len(seen) == len(names)
    assert set(seen) == names
    assert len(namespace) == 0


@pytest.mark.parametrize(
    "bad",
    [
        TokenEntry("bad", np.zeros((1, 4), np.float16), HASH),
        TokenEntry("bad", np.zeros((2, 4), np.float32), HASH),
        TokenEntry("bad", np.zeros((2, 4), ">f2"), HASH),
        TokenEntry("bad", np.zeros((2, 4), np.float16), b"short"),
        TokenEntry("", np.zeros((2, 4), np.float16), HASH),
    ],
)
def test_one_bad_entry_stores_none(namespace: TokenNamespace, bad: TokenEntry) -> None:
    with pytest.raises(InvalidRequest):
        namespace.put_many([entry("good"), bad])
    assert list(namespace.keys()) == []


def test_corrupt_value_is_an_error_that_names_the_key(path: Path) -> None:
    with TokenStore.open(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("good", 1), entry("bad", 2)])
    raw_put(path, b"tokens/" + ENCODER.encode(), b"\x00bad", b"x" * 56)
    with TokenStore.open(path) as store:
        namespace = store.namespace(ENCODER)
        with pytest.raises(StoreError, match=r"'bad' of encoder a{64} is corrupt.*encode the item again"):
            namespace.get_many(["good", "bad"])
        assert namespace.content_hashes(["good", "bad"]) == [HASH, None]
        namespace.put_many([entry("bad", 2)])
        np.testing.assert_array_equal(namespace.get_many(["bad"])[0], tokens_of(2))


def test_namespaces_do_not_see_each_other(store: TokenStore, namespace: TokenNamespace) -> None:
    other = store.namespace("b" * 64, TokenSpec(1, 3, "float32"), create=True)
    namespace.put_many([entry("a", 1)])
    assert other.get_many(["a"]) == [None]
    assert store.fingerprints() == {ENCODER: SPEC, "b" * 64: TokenSpec(1, 3, "float32")}


def test_unknown_encoder_is_an_error_that_lists_what_there_is(
    store: TokenStore, namespace: TokenNamespace
) -> None:
    with pytest.raises(StoreError, match=rf"no tokens of encoder nobody .* has {ENCODER}: \[2, 4\] float16"):
        store.namespace("nobody")


def test_another_spec_is_an_error_that_names_both(store: TokenStore, namespace: TokenNamespace) -> None:
    with pytest.raises(StoreError, match=r"are \[2, 4\] float16, not \[2, 5\] float16"):
        store.namespace(ENCODER, TokenSpec(2, 5, "float16"), create=True)


@pytest.mark.parametrize("fingerprint", ["", "a b", "a/b", "é", "a" * 129, "a\n"])
def test_what_is_no_fingerprint_is_refused(store: TokenStore, fingerprint: str) -> None:
    with pytest.raises(InvalidRequest, match="fingerprint"):
        store.namespace(fingerprint, SPEC, create=True)


def test_creating_a_namespace_needs_its_spec(store: TokenStore) -> None:
    with pytest.raises(InvalidRequest, match="TokenSpec"):
        store.namespace(ENCODER, create=True)


def test_corrupt_spec_is_an_error_that_shows_it(path: Path) -> None:
    TokenStore.open(path, create=True).close()
    raw_put(path, b"meta", b"namespace/x", b'{"dtype":"float16","hidden_size":4,"tokens":2,"more":1}')
    with TokenStore.open(path) as store, pytest.raises(StoreError, match="spec of encoder x is corrupt"):
        store.namespace("x")


@pytest.mark.parametrize("read_only", [True, False])
def test_missing_store_is_an_error_with_the_way_out(path: Path, read_only: bool) -> None:
    with pytest.raises(StoreError, match=r"no token store at .*rankport encode"):
        TokenStore.open(path, read_only=read_only)
    assert not path.exists()


def test_create_makes_parent_directories_and_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down"
    for _ in range(2):
        with TokenStore.open(path, create=True) as store:
            assert len(store.namespace(ENCODER, SPEC, create=True)) == 0


def test_a_store_is_never_made_among_other_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds 'notes.txt'.*empty directory"):
        TokenStore.open(tmp_path, create=True)
    with pytest.raises(StoreError, match="is a file"):
        TokenStore.open(tmp_path / "notes.txt", create=True)


def test_create_and_read_only_together_are_refused(path: Path) -> None:
    with pytest.raises(InvalidRequest, match="read-only"):
        TokenStore.open(path, create=True, read_only=True)


def test_store_whose_creation_was_killed_is_made_whole(path: Path) -> None:
    path.mkdir()
    lmdb.open(str(path)).close()
    with pytest.raises(StoreError, match="not a token store"):
        TokenStore.open(path)
    with TokenStore.open(path, create=True) as store:
        assert store.fingerprints() == {}


def test_another_lmdb_environment_is_refused_and_left_alone(path: Path) -> None:
    path.mkdir()
    raw_put(path, b"users", b"k", b"v")
    with pytest.raises(StoreError, match="not a token store"):
        TokenStore.open(path, create=True)
    with lmdb.open(str(path), max_dbs=8) as env, env.begin() as txn:
        assert [bytes(name) for name, _ in txn.cursor()] == [b"users"]


def test_newer_store_is_refused_with_both_versions(path: Path) -> None:
    TokenStore.open(path, create=True).close()
    raw_put(path, b"meta", b"format", b'{"format":"rankport-token-store","format_version":2}')
    with pytest.raises(StoreError, match=r'"format_version":2.*this release reads version 1'):
        TokenStore.open(path)


@pytest.mark.parametrize("content", [b"x" * 8192, b"x"])
def test_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.mkdir()
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(StoreError, match="cannot be opened"):
        TokenStore.open(path)


def test_second_opening_in_a_process_is_refused_and_the_first_still_works(
    path: Path, store: TokenStore, namespace: TokenNamespace
) -> None:
    with pytest.raises(StoreError, match=r"already open in this process.*pass the open TokenStore"):
        TokenStore.open(path)
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(StoreError, match="already open in this process"):
        TokenStore.open(link, read_only=True)
    namespace.put_many([entry("a", 1)])
    store.close()
    with TokenStore.open(link, read_only=True) as again:
        assert again.namespace(ENCODER).get_many(["a"])[0] is not None


def test_read_only_store_reads_and_refuses_to_write(path: Path) -> None:
    with TokenStore.open(path, create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry("a", 1)])
    with TokenStore.open(path, read_only=True) as store:
        namespace = store.namespace(ENCODER, SPEC)
        np.testing.assert_array_equal(namespace.get_many(["a"])[0], tokens_of(1))
        for write in (
            lambda: namespace.put_many([entry("b")]),
            lambda: namespace.delete_many(["a"]),
            lambda: store.namespace("new", SPEC, create=True),
        ):
            with pytest.raises(StoreError, match="read-only"):
                write()


def test_closed_store_says_so(store: TokenStore, namespace: TokenNamespace) -> None:
    store.close()
    store.close()
    for use in (
        lambda: namespace.get_many(["a"]),
        lambda: namespace.put_many([entry("a")]),
        store.fingerprints,
    ):
        with pytest.raises(StoreError, match="closed"):
            use()


def test_map_grows_under_readers_of_the_same_process(path: Path) -> None:
    with TokenStore.open(path, create=True, map_bytes=64 * 1024) as store:
        namespace = store.namespace(ENCODER, TokenSpec(2, 256, "float16"), create=True)
        written: list[int] = []
        problems: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                while not done.is_set():
                    numbers = written[-50:]
                    for number, tokens in zip(
                        numbers, namespace.get_many([str(n) for n in numbers]), strict=True
                    ):
                        assert tokens is not None
                        assert (tokens == number).all()
            except BaseException as error:
                problems.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        for start in range(0, 2000, 50):
            numbers = range(start, start + 50)
            namespace.put_many([TokenEntry(str(n), np.full((2, 256), n, np.float16), HASH) for n in numbers])
            written.extend(numbers)
        done.set()
        for reader in readers:
            reader.join()
        assert not problems
        assert len(namespace) == 2000
    assert (path / "data.mdb").stat().st_size > 16 * 64 * 1024


def test_batch_larger_than_the_whole_map_is_stored(path: Path) -> None:
    with TokenStore.open(path, create=True, map_bytes=64 * 1024) as store:
        namespace = store.namespace(ENCODER, SPEC, create=True)
        namespace.put_many([entry(f"{number:05d}" * 50, number) for number in range(3000)])
        assert len(namespace) == 3000


WRITER = """
import sys
import numpy as np
from rankport.runtime.store.store import TokenEntry, TokenSpec, TokenStore
with TokenStore.open(sys.argv[1], map_bytes=65536) as store:
    for line in sys.stdin:
        namespace = store.namespace(line.strip(), TokenSpec(2, 256, "float16"), create=True)
        namespace.put_many([TokenEntry(str(n), np.full((2, 256), n, np.float16), bytes(16)) for n in range(500)])
        print("stored", flush=True)
"""


@pytest.mark.parametrize("read_only", [True, False])
def test_reader_follows_what_another_process_writes(path: Path, read_only: bool) -> None:
    TokenStore.open(path, create=True, map_bytes=64 * 1024).close()
    command = [sys.executable, "-c", WRITER, str(path)]
    with (
        TokenStore.open(path, read_only=read_only, map_bytes=64 * 1024) as store,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer,
    ):
        assert writer.stdin is not None
        assert writer.stdout is not None
        for fingerprint in ("first", "second"):  # the map grows each time, under an open namespace the second
            print(fingerprint, file=writer.stdin, flush=True)
            assert writer.stdout.readline() == "stored\n"
            namespace = store.namespace(fingerprint)
            assert len(namespace) == 500
            last = namespace.get_many(["499"])[0]
            assert last is not None
            assert (last == 499).all()
        assert len(store.namespace("first")) == 500
        writer.stdin.close()
    assert writer.returncode == 0


FORK = """
import os, sys
from rankport.protos.errors import StoreError
from rankport.runtime.store.store import TokenSpec, TokenStore
with TokenStore.open(sys.argv[1]) as store:
    namespace = store.namespace("x", TokenSpec(1, 1, "float16"), create=True)
    child = os.fork()
    if child == 0:
        try:
            namespace.get_many(["a"])
        except StoreError as error:
            os._exit(42 if "fork" in str(error) else 1)
        os._exit(2)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_store_opened_before_a_fork_is_refused_in_the_child(path: Path) -> None:
    TokenStore.open(path, create=True).close()
    assert subprocess.run([sys.executable, "-c", FORK, str(path)], check=False).returncode == 42
