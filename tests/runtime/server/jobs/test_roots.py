"""What items and stores of jobs may be: below a folder or a prefix of URLs, however it is written."""

import os
from pathlib import Path

import pytest

from rankport.protos.errors import InvalidRequest, NotFound
from rankport.runtime.server.jobs.roots import JobRoots


@pytest.fixture
def roots(tmp_path: Path) -> JobRoots:
    """A folder with files and with links that lead out of it, and a prefix of URLs."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside / "a", outside):
        folder.mkdir(parents=True)
        (folder / "1.csv").touch()
    (inside / "linked").symlink_to(outside)
    return JobRoots([str(inside), "s3://bucket/path/"])


@pytest.mark.parametrize("pattern", ["a/*.csv", "*/1.csv", "**/*.csv", "a/[0-9].csv"])
def test_a_pattern_is_looked_for_below_the_root(roots: JobRoots, tmp_path: Path, pattern: str) -> None:
    assert roots.items(pattern) == str(tmp_path / "inside" / pattern)
    assert roots.items(str(tmp_path / "inside" / pattern)) == str(tmp_path / "inside" / pattern)


@pytest.mark.parametrize(
    ("pattern", "error"),
    [
        ("../outside/*.csv", "has '..'"),
        ("a/../../outside/*", "has '..'"),
        ("*/../../outside/*", "has '..'"),
        ("linked/*.csv", "is not below the server's job roots"),
        ("/etc/pass*", "is not below the server's job roots"),
        ("none*", "is not below the server's job roots"),
    ],
)
def test_a_pattern_that_leads_out_is_refused(roots: JobRoots, pattern: str, error: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^items .*{error}"):
        roots.items(pattern)


@pytest.mark.parametrize("name", ["a/2.csv", "a" * 5000])
def test_a_file_below_a_root_that_is_not_there_is_not_found(roots: JobRoots, name: str) -> None:
    with pytest.raises(NotFound, match=r"no items file '.*below .*inside"):
        roots.items(name)


def test_what_a_pattern_finds_through_a_link_is_refused_by_name(roots: JobRoots, tmp_path: Path) -> None:
    roots.check_items(str(tmp_path / "inside" / "a" / "1.csv"))
    with pytest.raises(InvalidRequest, match=r"items .*linked/1\.csv' is not below"):
        roots.check_items(str(tmp_path / "inside" / "linked" / "1.csv"))


@pytest.mark.parametrize(
    "url", ["s3://bucket/path/a.csv", "s3://bucket/path/**/*.csv", "S3://bucket/path/x", "s3://bucket/path"]
)
def test_a_url_below_a_prefix_is_taken(roots: JobRoots, url: str) -> None:
    assert roots.items(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/other/a.csv",
        "s3://bucket/pathology/a.csv",
        "s3://other/path/a.csv",
        "gs://bucket/path/a.csv",
        "s3://bucket/*/a.csv",
        "s3://bucket//path/a.csv",
        "s3://bucket/path/../other/a.csv",
        "s3://bucket/path/./a.csv",
        "s3://bucket/path/%2e%2e/other/a.csv",
        "s3://bucket/path/%252E%252e/other/a.csv",
        "s3://bucket/path/..%2fother/a.csv",
        "s3://bucket/path/a%2Fb.csv",
        "s3://bucket/path/..\\other",
        "s3://bucket/path/%5c..",
        "s3://bucket/path/a?versionId=1",
        "s3://bucket/path/a#b",
        "simplecache::s3://bucket/path/a.csv",
        "zip://a.csv::s3://bucket/path/a.zip",
        "file:///etc/passwd",
        "file::/etc/passwd",
        "local:///etc/passwd",
    ],
)
def test_a_url_that_is_or_could_be_of_another_place_is_refused(roots: JobRoots, url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^items "):
        roots.items(url)


@pytest.mark.parametrize(
    "root", ["file:///data", "local:///data", "s3://", "s3://bucket/*", "s3://bucket/../x"]
)
def test_a_root_that_is_none_is_refused(root: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^job root "):
        JobRoots([root])


def test_a_store_is_never_behind_a_url(roots: JobRoots) -> None:
    with pytest.raises(InvalidRequest, match=r"^store .* is not below the server's job roots"):
        roots.store("s3://bucket/path/tokens")


def test_a_folder_that_is_not_there_is_no_root(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"^job root is '.*/none': give a folder that is there"):
        JobRoots([str(tmp_path / "none")])


def test_what_may_never_end_is_refused(roots: JobRoots, tmp_path: Path) -> None:
    """A server whose thread opens a pipe that nobody writes to could not end."""
    pipe = tmp_path / "inside" / "a" / "pipe.csv"
    os.mkfifo(pipe)
    for look in (roots.items, roots.check_items):
        with pytest.raises(InvalidRequest, match=r"'a/pipe\.csv' is a pipe or a device"):
            look("a/pipe.csv")
