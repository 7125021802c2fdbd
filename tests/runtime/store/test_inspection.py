"""A check of all tokens while others write to the store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rankport.runtime.store.entries import Written
from rankport.runtime.store.inspection import check_tokens
from rankport.runtime.store.opening import open_store
from support.token_samples import ENCODER, SPEC, entry, raw_put


def test_what_is_deleted_or_comes_while_it_is_checked_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(tmp_path / "tokens", create=True) as store:
        store.namespace(ENCODER, SPEC, create=True).put_many([entry(key) for key in "abc"])
    raw_put(tmp_path / "tokens", b"tokens/" + ENCODER.encode(), b"\x00c", b"no value")
    with open_store(tmp_path / "tokens") as store:
        namespace = store.namespace(ENCODER)
        pages = namespace.pages

        def changing() -> Iterator[list[Written]]:
            for page in pages():
                namespace.delete_many(["a"])
                namespace.put_many([entry("d"), entry("e")])
                yield page

        with monkeypatch.context() as patched:
            patched.setattr(namespace, "pages", changing)
            checked = check_tokens(namespace)
        # "d" and "e" came.
        assert (checked.readable, checked.unreadable_keys, checked.unreadable) == (3, ("c",), 1)
        assert (check_tokens(namespace).readable, check_tokens(namespace).unreadable) == (3, 1)
