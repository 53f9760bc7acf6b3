"""Any transitions in any order: after each, Redis holds what the model holds, and I1 to I12 are kept.

The machine drives two consumers, plain clients, a leader and an operator against a real server. Leases
last hours, and ``time_passes`` ages what Redis holds, so that how fast the test runs decides nothing.
Few ids and few payloads: equal bytes and equal ids are the rule here, not the exception.

HYPOTHESIS_PROFILE: ``default`` explores anew each time, ``ci`` takes the same examples each time,
``deep`` takes its time.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from hashlib import sha1
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from headrace import flows, wire
from headrace import operations as op
from headrace.keys import keys_of
from headrace.operations import Operation
from headrace.scripts import Script
from headrace.store import Store
from tests.property.model import KEY_TTL, Model, id_of

T = TypeVar("T")

BASE = settings(deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
settings.register_profile("default", BASE, max_examples=150, stateful_step_count=40)
settings.register_profile(
    "ci", BASE, max_examples=150, stateful_step_count=40, derandomize=True, database=None
)
settings.register_profile("deep", BASE, max_examples=5_000, stateful_step_count=60)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")

HOUR = 3_600_000
LEASE, BARE_LEASE, GRACE = 2 * HOUR, 3 * HOUR, HOUR
MAX_CRASHES = 2
K = keys_of("queue")
FAILURE = wire.Error("max_attempts", type="ValueError", message="no", failed_at=1, consumer="A")

JOBS = [
    wire.assemble(job_id, b',"task":"t"}', priority)
    for job_id, priority in [("x", 0), ("y", 0), ("x", 7), ("y", -7)]
]
FOREIGN = [
    b'{"task":"t"}',
    b'{"task":"t","id":"x"}',
    b'{"id":"x","task":"t"}',  # equal to one of ours
    b'{"id":"x.1","task":"t"}',  # an id that a renamed job would get
    b'{"id":"x","priority":7,"task":"t"}',
    b'{"id":"x","priority":1.5,"task":"t"}',  # no priority, and no head beyond its id
    b'{"id":"y","crashes":1,"task":"t","more":[1e400,null]}\n',
    b'{"id":"~x","priority":7,"task"',  # looks as if it had a head
    b'{"id":"y",oops}',
    b"\xff oops",
]

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
      if at then redis.call('HSET', key, name, string.format('%.0f', rounded(at))) end
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
      redis.call('ZINCRBY', key, -ms, name)
    end
  elseif kind == 'hash' then
    for _, name in ipairs({'swept', 'quiet'}) do
      if redis.call('HEXISTS', key, name) == 1 then redis.call('HINCRBY', key, name, -ms) end
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
