"""`bundle_writer`: what is published opens; whatever fails leaves nothing at the output path and nothing beside it."""

import os
from pathlib import Path

import pytest

from rankport.exporters.graphs.bundle_writer import BundleStaging, replace_bundle
from rankport.protos.errors import BundleError, InvalidRequest
from rankport.runtime.bundle.manifest import Parity
from rankport.runtime.kinds.table import open_bundle
from support.bundle_samples import ENCODER_FILES, RANKER_FILES, encoder_draft, manifest_of, ranker_draft
from support.file_limits import files_of_at_most
from support.written_bundles import write_bundle

PARITY = Parity(
    backend="onnxruntime-cpu", precision="fp32", max_abs_tolerance=1e-4, min_kendall_tau=0.999, modes=[]
)


def names_in(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def test_a_written_bundle_opens_with_what_was_given(tmp_path: Path) -> None:
    written = write_bundle(tmp_path / "deep" / "out", ranker_draft(), RANKER_FILES)
    opened = open_bundle(tmp_path / "deep" / "out")
    assert opened == written
    assert opened.manifest == manifest_of(ranker_draft(), RANKER_FILES)
    assert names_in(tmp_path / "deep") == ["out"]


def test_files_are_copied_from_paths(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"a graph on disk")
    bundle = write_bundle(tmp_path / "out", encoder_draft(), {**ENCODER_FILES, "encode.onnx": source})
    assert bundle.file("encode.onnx").read_bytes() == source.read_bytes() == b"a graph on disk"


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    reverse = {name: RANKER_FILES[name] for name in sorted(RANKER_FILES, reverse=True)}
    one = write_bundle(tmp_path / "one", ranker_draft(), RANKER_FILES)
    two = write_bundle(tmp_path / "two", ranker_draft(), reverse)
    assert (one.path / "manifest.json").read_bytes() == (two.path / "manifest.json").read_bytes()


def test_a_published_bundle_is_as_readable_as_any_new_directory(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    bundle = write_bundle(tmp_path / "out", encoder_draft(), ENCODER_FILES)
    assert bundle.path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_measurements_are_filled_in_after_finalizing_and_leave_the_fingerprint(tmp_path: Path) -> None:
    with BundleStaging(tmp_path / "out") as staging:
        for name, content in RANKER_FILES.items():
            staging.add(name, content)
        first = staging.finalize(ranker_draft())
        assert open_bundle(first.path) == first
        assert not staging.out.exists()
        staging.finalize(ranker_draft(parity=PARITY))
        published = staging.publish()
    assert published.path == tmp_path / "out"
    assert open_bundle(tmp_path / "out").manifest.parity == PARITY
    assert published.manifest.fingerprint == first.manifest.fingerprint
    assert names_in(tmp_path) == ["out"]


def test_leaving_without_publishing_leaves_nothing(tmp_path: Path) -> None:
    with BundleStaging(tmp_path / "out") as staging:
        staging.add("weights.bin", b"123")
        assert len(names_in(tmp_path)) == 1
    assert names_in(tmp_path) == []


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with BundleStaging(tmp_path / "out") as staging:
            staging.add("encode.onnx", b"123")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({**RANKER_FILES, "weights.bin": Path(__file__, "no file")}, NotADirectoryError),
        ({"graphs/prefix.onnx": b"only one"}, BundleError),
        ({**RANKER_FILES, "../escaped": b""}, BundleError),
        ({**RANKER_FILES, "manifest.json": b"{}"}, BundleError),
        ({**RANKER_FILES, "plans/a": b""}, BundleError),
    ],
)
def test_files_that_do_not_fit_leave_nothing(
    tmp_path: Path, files: dict[str, bytes | Path], complaint: type[Exception]
) -> None:
    with pytest.raises(complaint):
        write_bundle(tmp_path / "out", ranker_draft(), files)
    assert names_in(tmp_path) == []


def test_a_draft_that_contradicts_itself_is_refused_by_field(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="labels: kind ranker needs labels"):
        write_bundle(tmp_path / "out", ranker_draft(labels=None), RANKER_FILES)
    assert names_in(tmp_path) == []


def test_a_link_among_the_staged_files_is_refused(tmp_path: Path) -> None:
    with BundleStaging(tmp_path / "out") as staging:
        (staging.path / "encode.onnx").symlink_to(tmp_path)
        with pytest.raises(BundleError, match=r"'encode\.onnx' is a symbolic link"):
            staging.finalize(encoder_draft())


def test_a_file_changed_after_finalizing_is_not_published(tmp_path: Path) -> None:
    with BundleStaging(tmp_path / "out") as staging:
        for name, content in ENCODER_FILES.items():
            staging.add(name, content)
        staging.finalize(encoder_draft())
        staging.add("encode.onnx", b"the encode graqh")
        with pytest.raises(BundleError, match=r"'encode\.onnx' has sha256"):
            staging.publish()
    assert names_in(tmp_path) == []


def test_what_was_never_finalized_is_not_published(tmp_path: Path) -> None:
    with BundleStaging(tmp_path / "out") as staging, pytest.raises(BundleError, match=r"no manifest\.json"):
        staging.publish()
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", [None, "notes.txt", "manifest.json"])
def test_a_directory_that_is_no_bundle_is_left_alone(
    tmp_path: Path, content: str | None, overwrite: bool
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if content is not None:
        (out / content).write_text('{"name": "a web app"}')
    with pytest.raises(InvalidRequest, match="exists and is not a bundle"):
        write_bundle(out, ranker_draft(), RANKER_FILES, overwrite=overwrite)
    assert names_in(tmp_path) == ["out"]
    assert names_in(out) == [content][: content is not None]


def test_a_file_or_a_link_at_the_output_path_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidRequest, match="exists and is not a bundle"):
        write_bundle(tmp_path / "file", ranker_draft(), RANKER_FILES, overwrite=True)
    write_bundle(tmp_path / "bundle", ranker_draft(), RANKER_FILES)
    (tmp_path / "link").symlink_to(tmp_path / "bundle")
    with pytest.raises(InvalidRequest, match="is a symbolic link"):
        write_bundle(tmp_path / "link", ranker_draft(), RANKER_FILES, overwrite=True)
    assert names_in(tmp_path) == ["bundle", "file", "link"]


def test_a_bundle_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    old = write_bundle(out, ranker_draft(), RANKER_FILES)
    with pytest.raises(InvalidRequest, match="is a bundle already: say --overwrite"):
        write_bundle(out, encoder_draft(), ENCODER_FILES)
    assert open_bundle(out) == old
    new = write_bundle(out, encoder_draft(), ENCODER_FILES, overwrite=True)
    assert open_bundle(out) == new
    assert names_in(tmp_path) == ["out"]


def test_a_failed_overwrite_keeps_the_old_bundle(tmp_path: Path) -> None:
    old = write_bundle(tmp_path / "out", ranker_draft(), RANKER_FILES)
    with pytest.raises(BundleError):
        write_bundle(tmp_path / "out", ranker_draft(labels=None), RANKER_FILES, overwrite=True)
    assert open_bundle(tmp_path / "out") == old
    assert names_in(tmp_path) == ["out"]


def test_a_broken_bundle_can_be_overwritten(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "out", ranker_draft(), RANKER_FILES)
    bundle.file("weights.bin").unlink()
    write_bundle(tmp_path / "out", ranker_draft(), RANKER_FILES, overwrite=True)
    open_bundle(tmp_path / "out")


@pytest.mark.parametrize("name", ["notes.md", "reports/mine.txt", "link", "plans"])
def test_files_of_the_owner_in_a_bundle_are_not_overwritten(tmp_path: Path, name: str) -> None:
    out = write_bundle(tmp_path / "out", ranker_draft(), RANKER_FILES).path
    (out / name).parent.mkdir(exist_ok=True)
    if "." in name:
        (out / name).write_text("mine")
    else:
        (out / name).symlink_to(tmp_path)
    with pytest.raises(InvalidRequest, match=f"holds '{name}' beside the bundle's own files"):
        write_bundle(out, ranker_draft(), RANKER_FILES, overwrite=True)
    (out / name).unlink()
    (out / "plans").mkdir()
    (out / "plans" / "of-this-machine").write_text("made again by rankport build")
    write_bundle(out, ranker_draft(), RANKER_FILES, overwrite=True)
    assert not (out / "plans").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_path_taken_while_staging_is_left_alone(tmp_path: Path, overwrite: bool) -> None:
    with BundleStaging(tmp_path / "out", overwrite=overwrite) as staging:
        for name, content in ENCODER_FILES.items():
            staging.add(name, content)
        staging.finalize(encoder_draft())
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
        with pytest.raises(InvalidRequest, match="exists and is not a bundle"):
            staging.publish()
    assert names_in(tmp_path) == ["out"]
    assert names_in(tmp_path / "out") == ["thesis.txt"]


def test_a_replacement_that_cannot_be_put_in_place_brings_the_old_bundle_back(tmp_path: Path) -> None:
    old = write_bundle(tmp_path / "out", ranker_draft(), RANKER_FILES)
    with pytest.raises(FileNotFoundError):
        replace_bundle(tmp_path / "vanished", tmp_path / "out")
    assert open_bundle(tmp_path / "out") == old
    assert names_in(tmp_path) == ["out"]


def test_a_folder_that_cannot_be_made_is_told_by_the_path_that_was_given(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError, match=r"cannot be made: .*/file is no folder") as failure:
        write_bundle(tmp_path / "file" / "deep" / "out", ranker_draft(), RANKER_FILES)
    assert failure.value.filename == str(tmp_path / "file" / "deep" / "out")
    with pytest.raises(OSError, match="cannot be made: No such file or directory") as failure:
        write_bundle("/proc/out", ranker_draft(), RANKER_FILES)
    assert failure.value.filename == "/proc/out"


def test_a_full_disk_is_told_by_the_path_that_was_given(tmp_path: Path) -> None:
    with files_of_at_most(1000), pytest.raises(OSError, match="cannot be written: File too large") as failure:
        write_bundle(tmp_path / "out", encoder_draft(), {**ENCODER_FILES, "weights.bin": bytes(1001)})
    assert failure.value.filename == str(tmp_path / "out")
    assert names_in(tmp_path) == []
