"""Freshness of nearline: from a change in the stream of Redis to the new score of a running server.

    python -m benchmarks.nearline [--demo build/demo] [--rate 200] [--seconds 20] [--out build/bench]

A Redis of its own, `rankport nearline` and `rankport serve` as commands on the store in it, with the bundles of
`make demo`; this process adds changes at the rate, each with a text that its item never had. Of some more, of items
that no other change touches, it asks for the item's score until is another, and notes how long after the change that
was. An answer takes a pass of the ranker, which is part of the figure, as is the time that a server keeps the tokens
of before (0.2 s at most). Rates and times are by the clock, on whatever else the machine does.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import redis

from benchmarks.machine import describe_machine
from rankport.protos.types import Key
from rankport.sdk.client import Client

TESTS = Path(__file__).parents[1] / "tests"
PREFIX = "Software developer with experience in data pipelines"
ITEMS, WATCHED = 2000, 50


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and writes OUT/nearline.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("build/demo"))
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(given.demo, Path(folder), given.rate, given.seconds)
    given.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1)
    (given.out / "nearline.json").write_text(text + "\n")
    print(text)


def measure(demo: Path, folder: Path, rate: float, seconds: float) -> dict[str, object]:
    """Runs the processes, and counts how fresh scores are."""
    sys.path.insert(0, str(TESTS))
    from support.servers.redis_server import redis_server  # type: ignore[import-not-found]

    with ExitStack() as stack:
        server = stack.enter_context(redis_server(folder))
        client = stack.enter_context(server.client())
        started(stack, "nearline", *consumer(demo, server.url), ready="consuming")
        for number in range(ITEMS + WATCHED):
            client.xadd("items", {"id": f"i{number}", "text": f"occupation {number}", "version": 0})
        await_done(client)
        command = [demo / "ranker.bundle", "--store", server.url, "--port", "0", "--json-log"]
        address = json.loads(started(stack, "serve", *command, ready='"address"'))["address"]
        scorer = stack.enter_context(Client(address))
        ended = threading.Event()
        added = [0]
        producer = threading.Thread(target=produce, args=(server.url, rate, ended, added))
        producer.start()
        begun = time.monotonic()
        fresh_s: list[float] = []
        while time.monotonic() - begun < seconds:
            fresh_s.append(freshness(client, scorer, len(fresh_s)))
        ran_s = time.monotonic() - begun
        ended.set()
        producer.join()
    return {
        "machine": describe_machine(),
        "changes_per_s": round(added[0] / ran_s, 1),
        "watched_changes": len(fresh_s),
        "freshness_s": {
            f"p{share}": round(float(np.percentile(fresh_s, share)), 3) for share in (50, 90, 99, 100)
        },
    }


def consumer(demo: Path, url: str) -> list[object]:
    return ["--redis", url, "--store", url, "--bundle", demo / "encoder.bundle"]


def started(stack: ExitStack, *command: object, ready: str) -> str:
    """Starts a command until the end of the stack; returns the line that says it is ready."""
    words = [sys.executable, "-m", "rankport.sdk.cli", *map(str, command)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    for line in process.stdout:
        if ready in line:
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return line
    raise SystemExit(f"{' '.join(words)} ended before it was ready")


def produce(url: str, rate: float, ended: threading.Event, added: list[int]) -> None:
    """Adds changes of items that nobody watches, at the rate."""
    begun = time.monotonic()
    with redis.Redis.from_url(url) as client:
        while not ended.wait(max(0.0, begun + added[0] / rate - time.monotonic())):
            added[0] += 1
            text = f"occupation {added[0]} with another description"
            client.xadd("items", {"id": f"i{added[0] % ITEMS}", "text": text, "version": added[0]})


def freshness(client: redis.Redis, scorer: Client, number: int) -> float:
    """Adds a change of a watched item; returns the seconds until its score is another."""
    item = f"i{ITEMS + number % WATCHED}"
    before = scorer.score(PREFIX, [Key(item)]).scores[0]
    begun = time.monotonic()
    text = f"{['nurse', 'sailor', 'baker', 'lawyer', 'painter'][number % 5]} number {number}"
    client.xadd("items", {"id": item, "text": text, "version": number + 1})
    while scorer.score(PREFIX, [Key(item)]).scores[0] == before:
        time.sleep(0.01)
    return time.monotonic() - begun


def await_done(client: redis.Redis) -> None:
    while True:
        [group] = client.xinfo_groups("items")
        [(last, _)] = client.xrevrange("items", count=1) or []
        if group["pending"] == 0 and group["last-delivered-id"] == last:
            return
        time.sleep(0.1)


if __name__ == "__main__":
    main()
