"""`run_ray_job`: files of items to a dataset of embedding tokens, on the actors of a Ray cluster.

Files are read twice: for the hashes of ids, so that of several rows with one id the first counts as everywhere, then
window by window. A read task has a file, some windows of a large one or many small ones, an actor one window at a time;
what a lost node had finished is a part that is there. The same call again makes only what is missing; parts that are
not of this input are deleted at its end.
"""

import json
import logging
import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from rankport.protos.errors import BackendError, InvalidRequest, RankportError, Unavailable
from rankport.protos.installed.extras import extras_named
from rankport.runtime.jobs.datasets.groups import FileGroup, groups_of
from rankport.runtime.jobs.datasets.part_maker import Outcome, Target
from rankport.runtime.jobs.datasets.ray_config import READER_CPUS, RayConfig
from rankport.runtime.jobs.datasets.tally import Tally
from rankport.runtime.jobs.datasets.windows import (
    ID_BYTES,
    Duplicates,
    EncodeWindows,
    MakeEncoder,
    hashed_ids,
    pieces_of,
    windows_of,
)
from rankport.runtime.jobs.encode_report import EncodeProgress, EncodeReport
from rankport.runtime.jobs.rows.items_file import ItemsFile
from rankport.runtime.jobs.rows.records import BadRow

_log = logging.getLogger(__name__)
_CONNECT_S = 5.0
_BLOCK_BYTES = 2**20  # of windows that travel together: small, or the first actor waits for a whole file


def run_ray_job(
    make_encoder: MakeEncoder,
    target: Target,
    files: Sequence[ItemsFile],
    config: RayConfig,
    *,
    on_progress: Callable[[EncodeProgress], None] | None = None,
    on_bad_row: Callable[[BadRow], None] | None = None,
) -> EncodeReport:
    """Encodes the rows of files into the dataset `target`, whose folder every node must see.

    `make_encoder` is called in each actor. Memory here: the hashes of all ids, 40 bytes each while they are compared.

    Raises:
        InvalidRequest: a file broke off, or a cluster that is started here lacks what the actors ask for.
        BackendError: the encoder failed as a whole.
        StoreError: a part cannot be written, or another job fills the folder.
        MissingExtra: Ray is not installed.
        Unavailable: the cluster cannot be reached, or lost what it needs. In all cases a rerun continues.
    """
    with Tally(target, files, on_progress, on_bad_row) as tally, _cluster(config) as data:
        groups = groups_of(files)
        names = data.from_items(
            [{"group": number} for number in range(len(groups))], override_num_blocks=len(groups)
        )
        pieces = _pieces(data, names, groups, config.read_rows, target.config.window_rows)
        duplicates = _duplicates(pieces, groups)
        # Other resources than an actor's keep Ray from reading and encoding a file in one and the same actor.
        windows = pieces.map_batches(
            partial(windows_of, groups, target.config.window_rows, on_bad_row is not None),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=READER_CPUS,
        )
        encoded = windows.map_batches(
            EncodeWindows,
            fn_constructor_args=(make_encoder, target, duplicates),
            batch_size=1,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(min_size=config.min_actors, max_size=config.max_actors),
            num_cpus=config.actor_cpus,
            num_gpus=config.actor_gpus,
        )
        for row in encoded.iter_rows():
            tally.take(Outcome(**json.loads(row["outcome"])), made=row["made"])
        return tally.finish()


def _pieces(data: Any, names: Any, groups: Sequence[FileGroup], read_rows: int, window_rows: int) -> Any:
    """Cuts files at the starts of windows, so that parts are those of files read from start to end."""
    rows = -(-read_rows // window_rows) * window_rows
    cut = names.map_batches(partial(pieces_of, groups, rows), batch_size=1, batch_format="pyarrow")
    found = [{"piece": row["piece"]} for row in cut.iter_rows()]
    return data.from_items(found, override_num_blocks=len(found))


def _duplicates(pieces: Any, groups: Sequence[FileGroup]) -> Duplicates:
    """Finds the rows whose id came earlier, in the order of files and lines."""
    hashed = pieces.map_batches(partial(hashed_ids, groups), batch_size=1, batch_format="pyarrow")
    places, hashes = [], []
    for batch in hashed.iter_batches(batch_size=None, batch_format="pyarrow"):
        places.append(np.stack([batch.column("file").to_numpy(), batch.column("line").to_numpy()], axis=1))
        flat = b"".join(batch.column("hash").to_pylist())
        hashes.append(np.frombuffer(flat, np.dtype(f"V{ID_BYTES}")))
    if not places:
        return {}
    place, key = np.concatenate(places), np.concatenate(hashes).view([("high", "<u8"), ("low", "<u8")])
    order = np.lexsort((place[:, 1], place[:, 0], key["low"], key["high"]))
    same = key[order[1:]] == key[order[:-1]]
    repeated: defaultdict[int, set[int]] = defaultdict(set)
    for number, line in place[order[1:][same]].tolist():
        repeated[number].add(line)
    return {number: frozenset(lines) for number, lines in repeated.items()}


@contextmanager
def _cluster(config: RayConfig) -> Iterator[Any]:
    """Connects for the block, or uses the connection that is there; gives Ray Data. Errors of workers are ours."""
    with extras_named("--engine ray"):
        import ray
        import ray.data
        from ray.exceptions import RayError
    own = not ray.is_initialized()
    try:
        if own:
            _check_reachable(config.address)
            ray.init(
                config.address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR
            )
        lack = config.lack(ray.cluster_resources())  # type: ignore[no-untyped-call]
        if lack and own and config.address is None:
            raise InvalidRequest(lack)
        if lack:
            _log.warning("%s; waiting for nodes that have them", lack)
        context = ray.data.DataContext.get_current()
        before = context.target_max_block_size, context.enable_progress_bars
        context.target_max_block_size, context.enable_progress_bars = _BLOCK_BYTES, False
        log = logging.getLogger("ray.data")
        level = log.level
        log.setLevel(logging.ERROR)  # it tells each of its steps, between lines of ours
        try:
            yield ray.data
        finally:
            log.setLevel(level)
            context.target_max_block_size, context.enable_progress_bars = before
    except RayError as error:
        raise _own_error(error) from error
    except ConnectionError as error:
        if isinstance(error, RankportError):
            raise
        raise Unavailable(f"no Ray cluster at {config.address}: {error}") from error
    finally:
        if own:
            ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raises `Unavailable` where nobody listens: Ray itself would wait for minutes."""
    host, separator, port = (address or "").removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        return  # auto, or a word of Ray's own
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise Unavailable(
            f"no Ray cluster at {address}: {error}: is it running, and is that its address?"
        ) from error


def _own_error(error: BaseException) -> RankportError:
    """Finds the error of ours that a worker raised."""
    seen: BaseException | None = error
    while seen is not None:
        cause = getattr(seen, "cause", None)
        if isinstance(cause, RankportError):
            return cause
        if isinstance(seen, RankportError):
            return seen
        seen = cause if isinstance(cause, BaseException) else seen.__cause__
    return BackendError(f"Ray could not go on; run again to continue: {str(error).strip().splitlines()[-1]}")
