"""A process that has as many files open as it may: told once in a while, and its limit raised where it can be."""

import asyncio
import errno
import logging
import resource
from collections.abc import Iterator

import pytest

from rankport.runtime.server.observing.open_files import OpenFiles, allow_open_files
from support.file_limits import no_more_files


@pytest.fixture
def limit() -> Iterator[int]:
    """A soft limit far below the hard one, until the end of the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_limit_is_raised_as_far_as_the_system_lets_it(limit: int) -> None:
    allow_open_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(limit, 2**16), limit)
    allow_open_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(limit, 2**16), limit)


def test_that_no_file_is_left_is_told_once_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    handler = OpenFiles(lambda: now[0])
    loop = asyncio.new_event_loop()
    fault = {"message": "socket.accept() out of system resource", "exception": OSError(errno.EMFILE, "no")}
    for now[0] in (0.0, 0.1, 9.9, 10.0):
        for _ in range(100):
            handler(loop, fault)
    loop.close()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert all("raise the limit (ulimit -n, LimitNOFILE), or lower max_connections" in line for line in told)


def test_other_faults_are_told_as_the_loop_does(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    with caplog.at_level(logging.ERROR):
        OpenFiles()(loop, {"message": "something else", "exception": ValueError("no")})
    loop.close()
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_that_no_file_is_left_for_grpc_is_seen_and_told_once_in_ten_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    files = OpenFiles(lambda: now[0])
    files.look()
    assert not caplog.records
    with no_more_files():
        for now[0] in (0.0, 9.9, 10.0):
            files.look()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert all("raise the limit (ulimit -n, LimitNOFILE)" in each for each in told)
