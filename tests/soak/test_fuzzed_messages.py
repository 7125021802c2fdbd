"""Messages with random faults: each has a status that fits, and the server lives on, within its memory, as before.

A few hundred in an ordinary run, a hundred thousand under `make test-full`.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from rankport.runtime.bundle.bundle import Bundle
from rankport.sdk import Client
from rankport.sdk.loadtest.http_target import HttpTarget
from rankport.sdk.loadtest.requests import LoadRequest
from soak.messages import Sample, changed, grpc_samples, http_samples
from soak.test_mixed_traffic import resident_bytes
from support.effort import FACTOR
from support.servers.serving import Command, serve

MESSAGES = 800 if FACTOR == 1 else 5_000 * FACTOR
CALLERS = 16
WAIT_S = 60.0
MOST_BYTES = 160 * 2**20  # beyond what the server held before: requests in hand, and a heap that is broken in
ALLOWED = ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED")
ALLOWED_HTTP = ("OK", "HTTP 400", "HTTP 404", "HTTP 413", "HTTP 422")
# Of a length that takes more than the server has, or a shape that no bytes bear out: still no fault of the server's.
LARGE = ("OUT_OF_RANGE", "RESOURCE_EXHAUSTED")


@pytest.fixture(scope="module")
def command(mix_bundle: Bundle, encoder_bundle: Bundle, generator_bundle: Bundle) -> Iterator[Command]:
    bundles = (
        f"ranker={mix_bundle.path}",
        f"encoder={encoder_bundle.path}",
        f"writer={generator_bundle.path}",
    )
    with serve(*bundles, "--http-port", "0", "--max-request-items", "10000") as command:
        yield command


class Fuzzer:
    """Callers that send changed samples until there were enough, and what became of them."""

    def __init__(self, count: int, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: dict[str, bytes] = {}  # of each kind, one message
        self._left, self._draw = count, random.Random(seed)

    def messages(self, samples: list[Sample]) -> Iterator[Sample]:
        """Draws messages, as long as there are some left for all callers together."""
        while self._left > 0:
            self._left -= 1
            sample = self._draw.choice(samples)
            yield Sample(sample.method, changed(sample.body, self._draw))

    def note(self, sample: Sample, status: str, told: str, fits: bool) -> None:
        self.counts[status] += 1
        if not fits:
            self.wrong.setdefault(f"{sample.method} {status}: {told[:200]}", sample.body)


async def call_grpc(address: str, samples: list[Sample], fuzzer: Fuzzer) -> None:
    async with grpc.aio.insecure_channel(address) as channel:

        async def caller() -> None:
            for sample in fuzzer.messages(samples):
                kind = channel.unary_stream if sample.method.endswith("/Generate") else channel.unary_unary
                call = kind(sample.method)(sample.body, timeout=WAIT_S)
                try:
                    if isinstance(call, grpc.aio.UnaryStreamCall):
                        async for _ in call:
                            pass
                    else:
                        await call
                except grpc.aio.AioRpcError as error:
                    status, told = error.code().name, error.details() or ""
                    large = status in LARGE and "retry" not in told
                    fuzzer.note(sample, status, told, status in ALLOWED or large)
                else:
                    fuzzer.note(sample, "OK", "", True)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def call_http(url: str, samples: list[Sample], fuzzer: Fuzzer) -> None:
    targets = {sample.method: HttpTarget(url + sample.method, WAIT_S) for sample in samples}

    async def caller() -> None:
        for sample in fuzzer.messages(samples):
            ended = await targets[sample.method].send(LoadRequest("", sample.body, 0))
            fuzzer.note(sample, ended.status, ended.reason, ended.status in ALLOWED_HTTP)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    for target in targets.values():
        await target.close()


def test_every_message_has_a_status_that_fits(command: Command, mix_bundle: Bundle) -> None:
    embedding = mix_bundle.manifest.embedding
    assert embedding is not None
    ready = command.lines[-1]
    with Client(command.address, model="ranker", timeout_s=WAIT_S) as client:
        before = client.score({"query": "nurse"}, ["hospital nurse", "cook"]).scores
        held_bytes = resident_bytes(command.process.pid)
        over_grpc, over_http = Fuzzer(MESSAGES * 3 // 4, 1), Fuzzer(MESSAGES // 4, 2)
        asyncio.run(call_grpc(command.address, grpc_samples(embedding.hidden_size), over_grpc))
        asyncio.run(call_http(f"http://{ready['http_address']}", http_samples(), over_http))
        after = client.score({"query": "nurse"}, ["hospital nurse", "cook"]).scores
    np.testing.assert_array_equal(after, before)
    assert not over_grpc.wrong, over_grpc.wrong
    assert not over_http.wrong, over_http.wrong
    assert over_grpc.counts.total() + over_http.counts.total() == MESSAGES
    assert over_grpc.counts["OK"] > 10
    assert over_grpc.counts["INVALID_ARGUMENT"] > 10
    assert over_http.counts["OK"] > 5
    assert over_http.counts["HTTP 400"] + over_http.counts["HTTP 422"] > 5
    grown_bytes = resident_bytes(command.process.pid) - held_bytes
    assert grown_bytes < MOST_BYTES, f"{grown_bytes / 2**20:.1f} MiB more, after {over_grpc.counts}"
    assert command.process.poll() is None
