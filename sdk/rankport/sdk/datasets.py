"""`encode_dataset`: embedding tokens of a catalogue as a dataset of parts, here or on a Ray cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

from rankport.protos.errors import InvalidRequest
from rankport.protos.types import Side
from rankport.runtime.config import Device, engine_config
from rankport.runtime.jobs.config import EncodeJobConfig, FileColumns, encode_job_config
from rankport.runtime.jobs.datasets import DatasetDtype, DatasetFormat, format_of_folder
from rankport.runtime.jobs.datasets.part_maker import Target
from rankport.runtime.jobs.datasets.part_rows import PartSpec, WeightSpec
from rankport.runtime.jobs.datasets.ray_config import RayConfig
from rankport.runtime.jobs.encode_job import spec_of
from rankport.runtime.jobs.encode_report import EncodeProgress, EncodeReport
from rankport.runtime.jobs.row_encoder import Encoder
from rankport.runtime.jobs.rows.records import BadRow
from rankport.runtime.jobs.rows.sources import ItemSources
from rankport.runtime.kinds.table import load_encoder
from rankport.runtime.options import from_keywords, refuse_unknown
from rankport.sdk.offline import of_side

StrPath = str | os.PathLike[str]
JobEngine = Literal["local", "ray"]


def encode_dataset(
    bundle: StrPath,
    items: StrPath | Sequence[StrPath],
    folder: StrPath,
    *,
    part_format: DatasetFormat | None = None,
    engine: JobEngine = "local",
    device: Device = "cpu",
    device_id: int = 0,
    side: Side | None = None,
    token_dtype: str | None = None,
    on_progress: Callable[[EncodeProgress], None] | None = None,
    on_bad_row: Callable[[BadRow], None] | None = None,
    **options: Any,
) -> EncodeReport:
    """Computes the embedding tokens of a catalogue into `folder`, of which it is all and nothing else at the end.

    >>> encode_dataset("encoder.bundle", "items/*.parquet", "/shared/tokens", engine="ray", max_actors=8)

    Its parts are in `part_format`, or in what the folder's name ends in (`.arrow`, `.lance`), else in Parquet, their
    tokens in `token_dtype`, float16 or float32, else as the encoder makes them.

    What is there already, of the same rows in the same order, is left alone. With Ray `bundle`, `items` and `folder`
    are paths that all nodes see. `options` are those of `rankport encode`: fields of `FileColumns`, `EncodeJobConfig`
    and, with Ray, `RayConfig`.

    Raises:
        InvalidRequest: an option, format or column that there is not, a file that broke off, a URL or a shard,
            or a folder that is a dataset of another format.
        NotFound: no such file.
        BundleError, StoreError, BackendError, Unavailable: bundle, disk, encoder or cluster failed as a whole; a rerun
            continues.
        MissingExtra: Ray is not installed.
    """
    if engine not in get_args(JobEngine):
        raise InvalidRequest(f"engine is {engine!r}: give {' or '.join(get_args(JobEngine))}")
    if part_format not in (None, *get_args(DatasetFormat)):
        raise InvalidRequest(f"part_format is {part_format!r}: give {', '.join(get_args(DatasetFormat))}")
    if token_dtype not in (None, *get_args(DatasetDtype)):
        raise InvalidRequest(
            f"token_dtype is {token_dtype!r} (--token-dtype): a dataset has {' or '.join(get_args(DatasetDtype))}"
        )
    columns, cluster = from_keywords(FileColumns, options), from_keywords(RayConfig, options)
    given = {name: options.pop(name) for name in list(options) if name in EncodeJobConfig.__slots__}
    refuse_unknown("encode_dataset", options, FileColumns, EncodeJobConfig, RayConfig)
    config = encode_job_config(device, **given)
    if config.prune or columns.deleted_column:
        raise InvalidRequest(
            "a dataset has what its input has, and nothing else: leave prune and deleted_column out"
        )
    if columns.file_format == "dead-letters":
        raise InvalidRequest(
            "file_format is dead-letters, and a dataset has what its input has, and nothing else: mend the rows in the "
            "items and make it of them again, or encode into a store"
        )
    several = [items] if isinstance(items, str | os.PathLike) else list(items)
    sources = ItemSources.find([os.fspath(each) for each in several], columns)
    files = sources.files()
    sources.check()
    make_encoder = partial(_opened, os.path.abspath(bundle), device, device_id, side)
    with make_encoder() as encoder:
        target = Target(
            os.path.abspath(folder),
            encoder.fingerprint,
            _part_spec(encoder, token_dtype),
            config,
            part_format or format_of_folder(folder),
        )
        if engine == "local":
            from rankport.runtime.jobs.datasets.local_job import run_dataset_job

            return run_dataset_job(encoder, target, files, on_progress=on_progress, on_bad_row=on_bad_row)
    from rankport.runtime.jobs.datasets.ray_job import run_ray_job

    return run_ray_job(make_encoder, target, files, cluster, on_progress=on_progress, on_bad_row=on_bad_row)


def _part_spec(encoder: Encoder, dtype: str | None) -> PartSpec:
    about = encoder.describe()
    if not about.embedding_form:
        return spec_of(encoder, dtype)
    if dtype not in (None, "float32"):
        raise InvalidRequest(f"token_dtype is {dtype!r} (--token-dtype): weights are kept in float32")
    return WeightSpec(about.hidden_size)


@contextmanager
def _opened(bundle: str, device: Device, device_id: int, side: Side | None) -> Iterator[Encoder]:
    with load_encoder(bundle, engine_config(device, device_ids=(device_id,))) as encoder:
        yield of_side(encoder, side)
