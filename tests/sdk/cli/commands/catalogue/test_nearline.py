"""`rankport nearline`: what it refuses before it asks a Redis for anything."""

import pytest

from rankport.protos.errors import InvalidRequest
from rankport.runtime.nearline.config import NearlineConfig
from rankport.runtime.nearline.consumer import NearlineCounts
from support.cli import rankport

HERE = ("--redis", "redis://localhost:1/0", "--store", "tokens.lmdb")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--redis", "localhost:6379", "--store", "s"),
            "--redis localhost:6379: give redis://HOST:PORT/DATABASE",
        ),
        (
            ("--redis", "redis://u:p@h/0?ttl=x", "--store", "s"),
            "--redis redis://u:***@h/0?ttl=x: ttl 'x': give a",
        ),
        (
            ("--redis", "redis://h/0?ttl=7d", "--store", "s"),
            "--redis names a stream: prefix and ttl are of a --store",
        ),
        (
            ("--redis", "redis://h/0?prefix=a", "--store", "s"),
            "--redis names a stream: prefix and ttl are of",
        ),
        (
            (*HERE, "--server", "localhost:1", "--device", "cuda"),
            "--device goes with --bundle; a server has its own",
        ),
        (
            (*HERE, "--server", "localhost:1", "--device-id", "2"),
            "--device-id goes with --bundle; a server has",
        ),
        (
            (*HERE, "--bundle", "b", "--claim-after-s", "inf"),
            "--claim-after-s is 'inf': it must be from 0.1 to 1000000",
        ),
        (
            (*HERE, "--bundle", "b", "--metrics-host", "0.0.0.0"),
            "--metrics-host is given without --metrics-port",
        ),
        ((*HERE, "--bundle", "b", "--max-wait-s", "inf"), "--max-wait-s is 'inf': it must be from 0 to 3600"),
    ],
)
def test_wrong_usage_is_told_with_the_flag(options: tuple[str, ...], message: str) -> None:
    run = rankport("nearline", *options)
    assert run.returncode == 2
    assert message in run.stderr


def test_seconds_that_redis_cannot_count_are_refused() -> None:
    for name in ("claim_after_s", "max_wait_s"):
        with pytest.raises(InvalidRequest, match=f"{name} is inf: it must be from"):
            NearlineConfig(**{name: float("inf")})  # type: ignore[arg-type]


def test_counts_are_told_in_words() -> None:
    counts = NearlineCounts(encoded=3, stale=1, dead_letters=1)
    assert counts.in_words == "3 encoded, 0 unchanged, 0 deleted, 1 stale, 1 dead letter"
