"""`build` and `encode` from Python: as the commands of those names, with a bundle, a loaded encoder or a served one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rankport.protos.errors import InvalidRequest, NotFound, PairingError
from rankport.protos.types import ModelDescription
from rankport.runtime.bundle.bundle import Bundle
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.store.opening import open_store
from rankport.sdk import Client, ItemEncoder, Server, ServerConfig, build, encode

ROWS = {"occ1": "data engineer", "occ2": "nurse", "occ3": "senior machine operator"}


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text("id,text\n" + "".join(f"{key},{text}\n" for key, text in ROWS.items()))
    return path


def test_a_bundle_encodes_a_catalogue_and_skips_it_the_next_time(
    encoder_bundle: Bundle, items: Path, tmp_path: Path
) -> None:
    store = tmp_path / "tokens.lmdb"
    assert encode(encoder_bundle.path, items, store, token_dtype="float32").encoded == len(ROWS)
    again = encode(encoder_bundle.path, items, store, batch_size=2, prune=True, token_dtype="float32")
    assert again.unchanged == len(ROWS)
    with ItemEncoder.load(encoder_bundle) as encoder, open_store(store, read_only=True) as tokens:
        namespace = tokens.namespace(encoder.fingerprint)
        assert namespace.spec.dtype == "float32"
        for key, wanted in zip(ROWS, encoder.encode(list(ROWS.values())), strict=True):
            np.testing.assert_allclose(namespace.get_many([key])[0], wanted, atol=1e-3)


@contextmanager
def serving(bundle: Bundle) -> Iterator[tuple[ItemEncoder, Server]]:
    with ItemEncoder.load(bundle) as encoder, Server({"encoder": encoder}, ServerConfig(port=0)) as server:
        yield encoder, server


def test_a_loaded_and_a_served_encoder_make_the_same_tokens(
    encoder_bundle: Bundle, items: Path, tmp_path: Path
) -> None:
    with (
        serving(encoder_bundle) as (encoder, server),
        Client(server.address, "encoder") as client,
        open_store(tmp_path / "tokens.lmdb", create=True) as store,
    ):
        assert encode(encoder, items, store).encoded == len(ROWS)
        assert encode(client, items, store).unchanged == len(ROWS)
        tokens = store.namespace(encoder.fingerprint)
        assert encode(client, items, tmp_path / "other.lmdb", batch_size=2).encoded == len(ROWS)
        with open_store(tmp_path / "other.lmdb", read_only=True) as other:
            served = other.namespace(encoder.fingerprint)
            for key in ROWS:
                np.testing.assert_allclose(served.get_many([key])[0], tokens.get_many([key])[0], atol=1e-3)


class ClientOfBefore(Client):
    """Client that asked what its model is before the name came to mean another one."""

    def describe(self, timeout_s: float | None = None) -> ModelDescription:
        return replace(super().describe(timeout_s), fingerprint="before")


def test_a_served_name_that_moves_to_another_encoder_ends_the_job(
    encoder_bundle: Bundle, items: Path, tmp_path: Path
) -> None:
    with (
        serving(encoder_bundle) as (encoder, server),
        ClientOfBefore(server.address, "encoder") as client,
        open_store(tmp_path / "tokens.lmdb", create=True) as store,
    ):
        with pytest.raises(
            PairingError, match=f"encoder {encoder.fingerprint} answered where before did before"
        ):
            encode(client, items, store)
        assert not list(store.namespace("before").keys())
        assert len(client.encode(["nurse"], fingerprint=encoder.fingerprint)) == 1


def test_a_served_model_that_does_not_encode_so_is_told_before_a_store_has_its_name(
    encoder_bundle: Bundle, items: Path, tmp_path: Path
) -> None:
    """All rows were bad, and the store had an encoder that there is not."""
    with (
        serving(encoder_bundle) as (_, server),
        Client(server.address) as client,
        open_store(tmp_path / "tokens.lmdb", create=True) as store,
    ):
        for side, told in (
            ("query", "has one side: leave it out|reads items alone"),
            ("left", "side is 'left'; give one of"),
        ):
            with pytest.raises(InvalidRequest, match=told):
                encode(client, items, store, side=side)  # type: ignore[arg-type]
        with Client(server.address, "nobody") as other, pytest.raises(NotFound, match="named 'nobody'"):
            encode(other, items, store)
        assert list(store.fingerprints()) == []


def test_columns_and_bad_rows_are_those_of_the_command(encoder_bundle: Bundle, tmp_path: Path) -> None:
    items, bad = tmp_path / "items.jsonl", list[BadRow]()
    items.write_text('{"key": "a", "title": "nurse", "more": "cook"}\n{"key": "b"}\n')
    report = encode(
        encoder_bundle.path,
        items,
        tmp_path / "tokens.lmdb",
        id_column="key",
        text_columns=["title", "more"],
        on_bad_row=bad.append,
    )
    assert (report.encoded, report.bad_rows, [row.line for row in bad]) == (1, 1, [2])


def test_what_there_is_not_is_named_before_anything_is_made(
    encoder_bundle: Bundle, items: Path, tmp_path: Path
) -> None:
    store = tmp_path / "tokens.lmdb"
    with pytest.raises(
        InvalidRequest, match="encode has no option 'batchsize': there are id_column, text_columns"
    ):
        encode(encoder_bundle.path, items, store, batchsize=2)
    with pytest.raises(NotFound, match="no items file"):
        encode(encoder_bundle.path, tmp_path / "none.csv", store)
    with pytest.raises(InvalidRequest, match="build has no option 'speed': there are max_batch_tokens, "):
        build(encoder_bundle.path, "tensorrt-rtx", speed=2)
    assert not store.exists()


def test_plans_are_those_of_the_command(encoder_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed", exc_type=ImportError)
    bundle = shutil.copytree(encoder_bundle.path, tmp_path / "encoder")
    (plan,) = build(bundle, "tensorrt-rtx:sm89", max_batch_tokens=64, max_prefixes=1, tf32=True)
    assert (plan.state, plan.plan.record.key.options.tf32) == ("built", True)
    assert plan.plan.path == bundle / "plans" / plan.plan.path.parent.name / "encode"
