"""Search for the highest rate that keeps to an aim: doubled until one does not, then halved in between."""

from collections.abc import Awaitable, Callable

from rankport.sdk.loadtest.config import Aim
from rankport.sdk.loadtest.result import LoadResult

RunRate = Callable[[float], Awaitable[LoadResult]]
_MOST_DOUBLINGS = 20


def keeps(result: LoadResult, aim: Aim) -> bool:
    """Says whether a rate kept to the aim: its latency, and few enough failures.

    Where both classes are sent, of the interactive ones.
    """
    result = result.of_class("interactive") if result.classes else result
    return result.percentile_s(99) <= aim.p99_s and result.failed_share <= aim.max_failed


async def find_rate(run: RunRate, first: float, aim: Aim) -> tuple[LoadResult | None, list[LoadResult]]:
    """Finds the highest rate that keeps to the aim, from `first` on; None if none above a thousandth of it does.

    Gives all rates that were run too, in their order.
    """
    runs: list[LoadResult] = []

    async def measured(rate: float) -> bool:
        runs.append(await run(rate))
        return keeps(runs[-1], aim)

    low, high = 0.0, first
    for _ in range(_MOST_DOUBLINGS):
        if not await measured(high):
            break
        low, high = high, 2 * high
    # Below the first rate there is no good one yet: a tenth of a bad one may be.
    floor = first / 1000
    while not low and high / 4 >= floor:
        if await measured(high / 4):
            low = high / 4
        else:
            high /= 4
    while low and high - low > aim.precision * low:
        middle = (low + high) / 2
        low, high = (middle, high) if await measured(middle) else (low, middle)
    good = [result for result in runs if keeps(result, aim)]
    return max(good, key=lambda result: result.rate, default=None), runs
