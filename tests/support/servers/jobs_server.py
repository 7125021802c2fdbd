"""Serves an encoder with jobs in a process of its own, to be killed: python -m support.servers.jobs_server FOLDER.

Prints its address. A batch is 8 rows by the tasks of `task`; each takes 20 ms, so that there is time to kill it.
"""

import sys
import time
from pathlib import Path

from rankport.protos.jobs import EncodeTask
from rankport.runtime.server.config import ServerConfig
from rankport.runtime.server.server import Server
from support.servers.deterministic_models import DeterministicEncoder

BATCH_S = 0.02


def jobs_config(folder: Path, *roots: str) -> ServerConfig:
    """A server that keeps jobs in `folder`, whose files they may read and write, and what is below other roots."""
    jobs_file = str(folder / "jobs.sqlite")
    return ServerConfig(port=0, grace_s=5.0, jobs_file=jobs_file, job_roots=(str(folder), *roots))


def task(items: str = "items.csv", store: str = "tokens", **fields: object) -> EncodeTask:
    """A task in batches of 8 rows."""
    return EncodeTask(items=items, store=store, batch_size=8, **fields)  # type: ignore[arg-type]


def write_items(folder: Path, rows: int) -> dict[str, str]:
    """Writes items.csv, and returns the texts by id."""
    texts = {f"i{number}": f"item {'x' * (number % 23)} {number}" for number in range(rows)}
    lines = ["id,text", *(f"{id},{text}" for id, text in texts.items())]
    (folder / "items.csv").write_text("\n".join(lines) + "\n")
    return texts


class SlowEncoder(DeterministicEncoder):
    """An encoder that takes its time."""

    def submit_texts(self, *arguments: object, **options: object):  # type: ignore[no-untyped-def, override]
        time.sleep(BATCH_S)
        return super().submit_texts(*arguments, **options)  # type: ignore[arg-type]


def main(folder: str) -> None:
    with Server({"encoder": SlowEncoder()}, jobs_config(Path(folder))) as server:  # type: ignore[dict-item]
        print(server.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
