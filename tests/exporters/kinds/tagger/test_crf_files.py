"""`crf.json` and `crf.safetensors` are read strictly: honoured or refused by name."""

from pathlib import Path

import numpy as np
import pytest

from rankport.exporters.kinds.tagger.crf_files import read_crf
from rankport.protos.errors import BundleError, CheckpointError
from rankport.runtime.bundle.manifest import Crf
from rankport.runtime.kinds.tagger.labels import LabelScheme
from rankport.runtime.kinds.tagger.tables import CrfTables
from support.reading.taggers import NAMES, random_crf, write_crf

SCHEME = LabelScheme.of(NAMES)
CHAIN = {"kind": "linear-chain", "labels": list(NAMES), "unit": "word"}
SEGMENTS = {"kind": "semi-markov", "labels": ["O", "city", "food"], "unit": "token", "max_segment": 4}


def test_tables_survive_the_way_into_a_bundle(tmp_path: Path) -> None:
    write_crf(tmp_path, random_crf("abc", 4), **SEGMENTS)
    files = read_crf(tmp_path, SCHEME)
    assert files is not None
    read = CrfTables.from_bytes(files.tables.to_bytes(), files.crf, SCHEME)
    assert read.labels == ("O", "city", "food")
    for name in ("transitions", "start", "end", "lengths"):
        np.testing.assert_array_equal(getattr(read, name), random_crf("abc", 4)[name])


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    assert read_crf(tmp_path, SCHEME) is None


@pytest.mark.parametrize("name", ["crf.json", "crf.safetensors"])
def test_one_file_without_the_other_is_refused(tmp_path: Path, name: str) -> None:
    write_crf(tmp_path, random_crf(NAMES), **CHAIN)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing beside the other"):
        read_crf(tmp_path, SCHEME)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (CHAIN | {"dropout": 0.1}, "'dropout' is unknown"),
        (CHAIN | {"kind": "crf"}, "kind is 'crf': must be linear-chain or semi-markov"),
        (CHAIN | {"unit": "subword"}, "unit is 'subword'"),
        ({"kind": "linear-chain", "labels": list(NAMES)}, "unit is None"),
        (
            CHAIN | {"labels": ["O", "I-city"]},
            r"labels is \['O', 'I-city'\]: a linear-chain CRF over this head has",
        ),
        (CHAIN | {"max_segment": 3}, "a linear-chain CRF has no segments"),
        (SEGMENTS | {"max_segment": 0}, "max_segment is 0"),
        (SEGMENTS | {"max_segment": True}, "max_segment is True"),
    ],
)
def test_what_is_said_wrong_is_refused(tmp_path: Path, stated: dict[str, object], message: str) -> None:
    write_crf(tmp_path, random_crf(NAMES), **stated)
    with pytest.raises(CheckpointError, match=message):
        read_crf(tmp_path, SCHEME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": None}, "tensor 'start' is missing for"),
        ({"bias": np.zeros(5, np.float32)}, "tensor 'bias' is no table of"),
        ({"end": np.zeros(4, np.float32)}, r"tensor 'end' is float32 \[4\]: must be floats \[5\]"),
        ({"end": np.zeros(5, np.int64)}, r"tensor 'end' is int64 \[5\]"),
        ({"start": np.full(5, -np.inf, np.float32)}, "tensor 'start' holds NaN or infinity: use -10000"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    tables = {name: table for name, table in (random_crf(NAMES) | change).items() if table is not None}
    write_crf(tmp_path, tables, **CHAIN)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=message):
        read_crf(tmp_path, SCHEME)


def test_a_bundle_file_of_another_size_is_refused() -> None:
    crf = Crf(kind="linear-chain", file="crf.bin")
    with pytest.raises(
        BundleError, match=r"crf\.bin has 8 bytes: a linear-chain CRF over 5 labels takes 140"
    ):
        CrfTables.from_bytes(bytes(8), crf, SCHEME)
    with pytest.raises(BundleError, match="holds NaN or infinity"):
        CrfTables.from_bytes(np.full(35, np.nan, np.float32).tobytes(), crf, SCHEME)


def test_segments_that_one_unit_cannot_be_are_refused(tmp_path: Path) -> None:
    """A text of one unit, or of three, has no cut."""
    scheme, fields = LabelScheme.of(["B-city", "E-city"]), {"labels": ["city"], "unit": "word"}
    stated = {"kind": "semi-markov", "max_segment": 2, **fields}
    write_crf(tmp_path, random_crf("a", 2), **stated)
    with pytest.raises(
        CheckpointError, match=r"no label of the head \['B-city', 'E-city'\] is of a segment of one"
    ):
        read_crf(tmp_path, scheme)
    data = np.zeros(5, np.float32).tobytes()
    crf = Crf(kind="semi-markov", file="crf.bin", max_segment=2)
    with pytest.raises(BundleError, match=r"crf\.bin: no label of .* is of a segment of one unit"):
        CrfTables.from_bytes(data, crf, scheme)
    for more in ("O", "S-city"):
        sound = LabelScheme.of(["B-city", "E-city", more])
        labels = ["O", "city"] if more == "O" else ["city"]
        write_crf(tmp_path, random_crf(labels, 2), **(stated | {"labels": labels}))
        assert read_crf(tmp_path, sound) is not None
