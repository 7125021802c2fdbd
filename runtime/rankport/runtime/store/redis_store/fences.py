"""Fences of writes to Redis: a command that comes too late does nothing, by the clock of the node that has its key.

So one that a writer sends after a long pause, or that the network keeps for long, writes over nothing.
"""

from collections.abc import Iterable, Sequence

from rankport.runtime.store.entries import LateWriteError
from rankport.runtime.store.redis_store.connection import Command, RedisConnection

_LATE = -1
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
_CLOCK = f"{_NOW} return now"
_WRITE = f"""{_NOW}
if now >= tonumber(ARGV[1]) then return {_LATE} end
return redis.call(ARGV[2], KEYS[1], unpack(ARGV, 3))
"""


def times_until(connection: RedisConnection, keys: Sequence[bytes], seconds: float) -> list[int]:
    """Returns the time of each key's node in so many seconds, in milliseconds. Raises `StoreError`."""
    asked = keys if connection.clustered else keys[:1]
    found = [int(now) for now in connection.run([("EVAL", _CLOCK, 1, key) for key in asked])]
    if not connection.clustered:
        found *= len(keys)
    return [now + round(seconds * 1000) for now in found]


def fenced(command: Command, until_ms: float) -> Command:
    """Makes of a command of one key the same until a time."""
    name, key, *rest = command
    return ("EVAL", _WRITE, 1, key, round(until_ms), name, *rest)


def check_none_late(replies: Iterable[object]) -> None:
    """Raises `LateWriteError` where one of the replies of fenced commands says that it was late."""
    if _LATE in replies:
        raise LateWriteError
