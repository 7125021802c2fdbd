"""`ChangeStream`: a stream of Redis as one consumer of a group sees it, and how far each item's changes are done.

Owns what Redis keeps beside the stream, in the same slot of a cluster:
    {stream}:GROUP:versions   hash: item -> 20 digits of the version that is done, and "d" where that deleted it
    {stream}:GROUP:leases     hash: item -> until when (milliseconds), a blank, who works on it: a consumer, and which
    {stream}:GROUP:dead       stream of dead letters: the fields of the entry, and its reason
Each step is one script, which nothing comes between; it acknowledges last, as Redis takes nothing back of one that
fails.
"""

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rankport.protos.errors import InvalidRequest, StoreError
from rankport.protos.wording import counted
from rankport.runtime.nearline.changes import FIELDS, Change, Entry
from rankport.runtime.store.contract import TokenStore
from rankport.runtime.store.redis_store.connection import Command, RedisConnection

_MOST_FIELDS = 1000  # of a dead letter: a script hands over some thousand words at most
Standing = Literal["mine", "taken over", "busy", "stale"]

_LEASE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local standings = {}
for at = 4, #ARGV, 2 do
  local item, version = ARGV[at], ARGV[at + 1]
  local done = redis.call('HGET', KEYS[1], item)
  local lease = redis.call('HGET', KEYS[2], item)
  local standing = 'mine'
  if done and string.sub(done, 1, 20) >= version then
    standing = 'stale'
  else
    local till, holder = string.match(lease or '', '^(%d+) (.*)$')
    if holder ~= ARGV[1] then
      if ARGV[3] == 'kept' or (lease and tonumber(till) > now) then
        standing = 'busy'
      elseif lease then
        standing = 'taken over'
      end
    end
  end
  if standing == 'mine' or standing == 'taken over' then
    redis.call('HSET', KEYS[2], item, string.format('%.0f', now + tonumber(ARGV[2])) .. ' ' .. ARGV[1])
  end
  standings[#standings + 1] = standing
end
return standings
"""
_RELEASE = """
local function release(item)
  local lease = redis.call('HGET', KEYS[3], item)
  if lease and string.match(lease, '^%d+ (.*)$') == ARGV[2] then redis.call('HDEL', KEYS[3], item) end
end
"""
_FINISH = (
    _RELEASE
    + """
local finished = {}
for at = 3, #ARGV, 4 do
  local entry, item, version, mark = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local done = redis.call('HGET', KEYS[2], item)
  local lease = redis.call('HGET', KEYS[3], item)
  local is_stale = done and string.sub(done, 1, 20) >= version
  if is_stale or (lease and string.match(lease, '^%d+ (.*)$') == ARGV[2]) then
    if not is_stale then redis.call('HSET', KEYS[2], item, version .. mark) end
    redis.call('XACK', KEYS[1], ARGV[1], entry)
    release(item)
    finished[#finished + 1] = (at - 3) / 4
  end
end
return finished
"""
)
_BURY = (
    _RELEASE
    + """
if ARGV[4] ~= '' then release(ARGV[4]) end
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 5))
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
"""
)
_CLAIM = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local open = {}
for at = 5, #ARGV do open[ARGV[at]] = true end
local function leased_for(entry)
  local found = redis.call('XRANGE', KEYS[1], entry, entry)[1]
  for at = 1, found and #found[2] or 0, 2 do
    if found[2][at] == 'id' then
      local lease = redis.call('HGET', KEYS[2], found[2][at + 1])
      return lease and math.max(0, tonumber(string.match(lease, '^%d+')) - now) or 0
    end
  end
  return 0
end
local claimed = {}
for _, facts in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', ARGV[3], '-', '+', ARGV[4])) do
  local entry, left = facts[1], leased_for(facts[1])
  if open[entry] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], entry, 'JUSTID')
  elseif left > 0 then
    local idle = string.format('%.0f', math.max(0, ARGV[3] - left))
    redis.call('XCLAIM', KEYS[1], ARGV[1], facts[2], ARGV[3], entry, 'IDLE', idle, 'JUSTID')
  else
    local found = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], entry)[1]
    if found and found[2] then claimed[#claimed + 1] = {entry, found[2], facts[4] + 1} end
  end
end
return claimed
"""
_GROUP = "return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')"
_BACKLOG = """
local count, after = 0, '-'
for _, facts in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for at = 1, #facts, 2 do group[facts[at]] = facts[at + 1] end
  if group['name'] == ARGV[1] then count, after = group['pending'], '(' .. group['last-delivered-id'] end
end
local told = {count}
local ahead = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 1)
if ahead[1] then told[#told + 1] = ahead[1][1] end
if count > 0 then told[#told + 1] = redis.call('XPENDING', KEYS[1], ARGV[1])[2] end
return told
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Changes that are not done."""

    pending: int  # delivered, to any consumer
    lag_s: float  # age of the oldest, delivered or not; 0 with none


class ChangeStream:
    """One consumer's view of a stream. Any thread may call it."""

    def __init__(self, connection: RedisConnection, stream: str, group: str, consumer: str) -> None:
        self._connection, self._group, self._consumer = connection, group, consumer
        self._holder = (
            f"{consumer} {secrets.token_hex(8)}"  # two processes may have one name: of a machine, or given
        )
        base = f"{stream}:{group}" if "{" in stream else f"{{{stream}}}:{group}"
        self._stream = stream
        self._versions, self._leases, self.dead = f"{base}:versions", f"{base}:leases", f"{base}:dead"

    def ensure_group(self) -> None:
        """Makes the group, of all that the stream has, and the stream, if there is none.

        Raises `StoreError`, also for a key of that name that is no stream.
        """
        try:
            self._script(_GROUP, [self._stream], [self._group])
        except StoreError as error:
            if "WRONGTYPE" in str(error):
                raise StoreError(
                    f"stream {self._stream!r}: Redis has a key of that name that is no stream"
                ) from error
            if "BUSYGROUP" not in str(error):
                raise

    def check_begun_with(self, store: TokenStore, fingerprint: str) -> None:
        """Raises `InvalidRequest` where the group did changes already, and the store has no tokens of the encoder.

        Those would be missing for good: the group was begun with another store, or another encoder.
        """
        [items] = self._connection.run([("HLEN", self._versions)])
        if items and fingerprint not in {**store.fingerprints(), **store.filling()}:
            raise InvalidRequest(
                f"group {self._group!r} of stream {self._stream!r} did changes of {counted(items, 'item', ',')} "
                f"already, and store {store.location} has no tokens of encoder {fingerprint}: give another --group, "
                "which reads the stream from its start, or fill the store first (`rankport encode`)"
            )

    def read(self, count: int, wait_s: float) -> list[Entry]:
        """Takes new entries, waiting for the first one at most so long, or half a reply's time. Raises `StoreError`."""
        longest_s = self._connection.location.timeout_s / 2  # a reply that takes all of its time is none
        block: Command = ("BLOCK", max(1, round(min(wait_s, longest_s) * 1000)))
        streams: Command = ("STREAMS", self._stream, ">")
        command = ("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count, *block, *streams)
        [found] = self._connection.run([command])
        return [Entry(name.decode(), fields or {}) for _, entries in found or [] for name, fields in entries]

    def claim(self, count: int, idle_s: float, open_ids: Iterable[str]) -> list[Entry]:
        """Takes over entries that were delivered so long ago and are not done. Raises `StoreError`.

        Not those that are open here, or whose items are leased: somebody is at work. A delivery of such an entry would
        count as one that ended its consumer.
        """
        arguments: Command = (self._group, self._consumer, round(idle_s * 1000), count, *open_ids)
        found = self._script(_CLAIM, [self._stream, self._leases], arguments)
        return [
            Entry(name.decode(), dict(zip(flat[::2], flat[1::2], strict=True)), int(deliveries))
            for name, flat, deliveries in found
        ]

    def lease(self, changes: Sequence[Change], seconds: float, *, kept: bool = False) -> list[Standing]:
        """Takes the right to write these items for so long, or keeps it; says how each change stands.

        "taken over": it is this consumer's, and another one, whose time was up, may still write it. "busy": another
        consumer works on the item, or, where it is to be `kept`, did so since it was taken. "stale": that version, or a
        newer one, is done.
        """
        if not changes:
            return []
        pairs = [word for change in changes for word in (change.item, _digits(change))]
        arguments: Command = (self._holder, round(seconds * 1000), "kept" if kept else "", *pairs)
        found = self._script(_LEASE, [self._versions, self._leases], arguments)
        return [standing.decode() for standing in found]

    def finish(self, changes: Sequence[Change]) -> list[Change]:
        """Notes that changes are done, acknowledges them, and lets go of their items; returns which.

        Not those whose items another consumer had since they were taken: it may have written over them.
        """
        if not changes:
            return []
        words: list[bytes | str | int] = [
            word
            for change in changes
            for word in (change.entry.id, change.item, _digits(change), "d" if change.text is None else "")
        ]
        keys = [self._stream, self._versions, self._leases]
        found = self._script(_FINISH, keys, (self._group, self._holder, *words))
        return [changes[place] for place in found]

    def bury(self, entry: Entry, item: str | None, reason: str) -> None:
        """Moves an entry to the dead letters, with the reason, once; of over a thousand fields those of a change."""
        kept, left_out = entry.fields, len(entry.fields.keys() - FIELDS)
        if len(kept) > _MOST_FIELDS:
            kept = {name: value for name, value in kept.items() if name in FIELDS}
            reason += f"; {left_out} other fields are left out here, the entry in the stream has them"
        fields: list[bytes | str | int] = [word for pair in kept.items() for word in pair]
        told: Command = ("reason", reason, "entry", entry.id, "deliveries", entry.deliveries)
        arguments: Command = (self._group, self._holder, entry.id, item or "", *fields, *told)
        self._script(_BURY, [self._stream, self.dead, self._leases], arguments)

    def backlog(self) -> Backlog:
        """Reads how much is not done, and how old that is. Raises `StoreError`."""
        pending, *oldest = self._script(_BACKLOG, [self._stream], [self._group])
        ages = [time.time() - int(name.partition(b"-")[0]) / 1000 for name in oldest]
        return Backlog(int(pending), max([0.0, *ages]))

    def _script(self, script: str, keys: Sequence[str], arguments: Sequence[bytes | str | int]) -> Any:
        command: Command = ("EVAL", script, len(keys), *keys, *arguments)
        return self._connection.run([command])[0]


def _digits(change: Change) -> str:
    return f"{change.version:020d}"
