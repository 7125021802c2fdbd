"""A copy of a store to a snapshot, in a process of its own; tells how far it is, and goes on when it is told to.

python -m support.jobs.copy_worker SOURCE TARGET ENCODER [MAX_FILE_BYTES]
"""

import resource
import sys
from pathlib import Path

from rankport.protos.errors import StoreError
from rankport.runtime.store.copy_ends import NamespaceSource, snapshot_target
from rankport.runtime.store.copying import CopyProgress, copy_tokens
from rankport.runtime.store.opening import open_store


def tell(progress: CopyProgress) -> None:
    """Tells a step and waits for a line."""
    print(progress.stage, progress.items, flush=True)
    sys.stdin.readline()


def main(source: str, target: str, encoder: str, *max_file_bytes: str) -> None:
    """Copies."""
    for limit in map(int, max_file_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with open_store(source, read_only=True) as store:
        copied = NamespaceSource(store.namespace(encoder), source)
        try:
            report = copy_tokens(copied, snapshot_target(Path(target), copied, copied.spec), tell)
        except StoreError as error:
            sys.exit(str(error))
    print("done", report.written, report.unchanged, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
