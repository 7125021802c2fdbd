"""Runs an encode job in a process of its own, to be killed: python -m support.jobs.encode_worker STORE ROWS."""

import sys

from rankport.runtime.jobs.encode_job import EncodeJobConfig, namespace_of, run_encode_job
from rankport.runtime.jobs.encode_report import EncodeProgress
from rankport.runtime.jobs.rows.item_rows import ItemRow
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.lmdb_store.store import LmdbStore
from rankport.runtime.store.opening import open_store
from support.hash_encoder import HashEncoder

CONFIG = EncodeJobConfig(batch_size=8, window_batches=4)


def main(path: str, rows: int) -> None:
    """Prints the rows stored so far, at the start and after each batch; at the end encoded and unchanged rows.

    After each batch it waits for a line of standard input, if that is open: so it never runs ahead of its killer.
    """
    encoder = HashEncoder(padding_matters=True)
    items = [ItemRow(n, f"item-{n}", f"{'x' * (n * 13 % 37)} {n}") for n in range(rows)]
    print(0, flush=True)
    with opened(path) as store:
        namespace = namespace_of(store, encoder)
        report = run_encode_job(encoder, namespace, items, CONFIG, on_progress=tell)
    print(report.encoded, report.unchanged, flush=True)


def opened(path: str) -> TokenStore:
    if "://" in path:
        return open_store(path, create=True)
    return LmdbStore.open(path, create=True, map_bytes=64 * 1024)


def tell(now: EncodeProgress) -> None:
    print(now.encoded, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
