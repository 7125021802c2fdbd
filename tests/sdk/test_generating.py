"""Texts that a server writes, read from its messages."""

from collections.abc import Iterator

from rankport.protos.generation import (
    GeneratedPart,
    GenerateResult,
    GenerateUsage,
    Sampling,
    TokenLogprob,
)
from rankport.protos.messages.generate_wire import last_message, part_message
from rankport.protos.v1 import rankport_pb2 as pb
from rankport.sdk.generating import WrittenText
from rankport.sdk.transport.retries import RetryBudget

SAMPLING = Sampling(logprobs=True, top_logprobs=1)
PARTS = [GeneratedPart(text, id, -0.5, (TokenLogprob(id, text, -0.5),)) for id, text in ((7, "a"), (8, "b"))]


def test_a_stream_that_is_begun_has_the_whole_text() -> None:
    """Parts that come in one message with the first one, too."""
    usage = GenerateUsage(0, 3, 2, 0.0, 0.0, 0.0)
    whole = GenerateResult("ab", (7, 8), "length", usage)

    def messages(timeout_s: float | None) -> Iterator[pb.GenerateResponse]:
        return iter([part_message(PARTS), last_message(whole, "f")])

    text = WrittenText(messages, SAMPLING, "here", None, RetryBudget().tries(None))  # type: ignore[arg-type]
    next(iter(text))
    result = text.result()
    assert (result.text, result.token_ids, result.finish_reason, result.usage) == (
        "ab",
        (7, 8),
        "length",
        usage,
    )
    assert result.top_logprobs == tuple(part.top_logprobs for part in PARTS)
