"""What the machine asks of Redis beside the operations: to be read whole, to age, to be kept and put back."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from headrace import operations as op
from headrace.operations import Operation
from headrace.scripts import Script
from tests.property.examples import K

# Reads a queue, and puts each instant on a whole hour, as the model has it: what it takes to run an
# example is rounded away. ARGV: the instant of the example's start, an hour.
READ = """#!lua
local base, hour = tonumber(ARGV[1]), tonumber(ARGV[2])
local function rounded(ms) return base + math.floor((ms - base) / hour + 0.5) * hour end
local read = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'list' then read[i] = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'string' then read[i] = redis.call('GET', key)
  elseif kind == 'hash' then
    for _, name in ipairs({'swept', 'quiet'}) do
      local at = redis.call('HGET', key, name)
      if at and at ~= '0' then redis.call('HSET', key, name, string.format('%.0f', rounded(at))) end
    end
    read[i] = redis.call('HGETALL', key)
  elseif kind == 'zset' then
    local pairs = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for n = 1, #pairs, 2 do
      local at = tonumber(pairs[n + 1])
      if at > 1000000 and rounded(at) ~= at then
        pairs[n + 1] = string.format('%.0f', rounded(at))
        redis.call('ZADD', key, pairs[n + 1], pairs[n])
      end
    end
    read[i] = pairs
  else read[i] = {} end
end
return {read, redis.call('KEYS', '*')}
"""
# ARGV: by how many ms everything gets older.
AGE = """#!lua
local ms = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind, ttl = redis.call('TYPE', key).ok, redis.call('PTTL', key)
  if kind == 'zset' then
    for _, name in ipairs(redis.call('ZRANGE', key, 1000000, '+inf', 'BYSCORE')) do
      redis.call('ZINCRBY', key, 0 - ms, name)
    end
  elseif kind == 'hash' then
    for _, name in ipairs({'swept', 'quiet'}) do
      local at = redis.call('HGET', key, name)
      if at and at ~= '0' then redis.call('HINCRBY', key, name, 0 - ms) end
    end
  end
  if ttl >= 0 and ttl <= ms then redis.call('DEL', key)
  elseif ttl >= 0 then redis.call('PEXPIRE', key, ttl - ms) end
end
"""
DUMP = """#!lua
local copy = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  copy[#copy + 1] = key
  copy[#copy + 1] = redis.call('PTTL', key)
  copy[#copy + 1] = redis.call('DUMP', key)
end
return copy
"""
RESTORE = """#!lua
redis.call('FLUSHALL')
for i = 1, #ARGV, 3 do
  redis.call('RESTORE', ARGV[i], math.max(0, ARGV[i + 1]), ARGV[i + 2])
end
"""


def script(name: str, source: str) -> Script:
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())


READ_SCRIPT, AGE_SCRIPT = script("read", READ), script("age", AGE)
DUMP_SCRIPT, RESTORE_SCRIPT = script("dump", DUMP), script("restore", RESTORE)
PLACES = (
    K.pending, K.processing, K.dead, K.delayed, K.priority, K.leases, K.claims, K.stats, K.meta,
    K.cancelled,
)  # fmt: skip


def raw(script: Script, keys: Sequence[str] = (), *args: Any) -> Operation[Any]:
    return Operation(script.name, script, tuple(keys), args, parse=lambda raw: raw)


def plain(*args: Any) -> Operation[Any]:
    return op.command(*args, parse=lambda raw: raw)


def pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
