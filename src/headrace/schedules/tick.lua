#!lua
-- Fires ticks of a schedule: enqueues their jobs and sets the next tick, once, whoever asks and however often.
-- KEYS 1 schedules (hash) 2 due (zset) 3 state (hash) 4 pending (list) 5 priority (zset) 6 delayed (zset)
--      7 nudge (list) 8 stats (hash) 9 registry (set)
-- ARGV 1 name 2 the tick that is due (ms) 3 SHA-1 of the definition: both as they were when it was computed
--      4 the last tick of this call (ms) 5 the tick after it (ms) 6 how many ticks are missed
--      7… the jobs of the others, in their order, <= 1000
-- Returns 'ok'; 'stale': fired already, or changed meanwhile; 'early': by Redis' clock it is not due
-- include: sound
-- include: now
-- include: head
-- include: place
local schedules, due, state, pending, priority, delayed, nudge, stats, registry = unpack(KEYS)
local name, tick, last, following = ARGV[1], whole(ARGV[2]), whole(ARGV[4]), whole(ARGV[5])
local missed, jobs, now = whole(ARGV[6]), {unpack(ARGV, 7)}, now_ms()
sound('HLEN', 'ZCARD', 'HLEN', 'LLEN', 'ZCARD', 'ZCARD', 'LLEN', 'HLEN', 'SCARD')
if #jobs > 1000 or last < tick or following <= last then error('no step of a schedule') end
for _, job in ipairs(jobs) do if not id_of(job) then error('a job without an id') end end
local definition = redis.call('HGET', schedules, name)
if not definition or redis.sha1hex(definition) ~= ARGV[3] then return 'stale' end
if tonumber(redis.call('ZSCORE', due, name) or 'nan') ~= tick then return 'stale' end
if last > now then return 'early' end
local sane, seen = pcall(cjson.decode, redis.call('HGET', state, name) or '{}')
if not sane or type(seen) ~= 'table' then seen = {} end

redis.call('ZADD', due, following, name)
for _, job in ipairs(jobs) do place(job, pending, priority, nudge, stats) end
if #jobs > 0 then
  redis.call('HINCRBY', stats, 'enqueued', #jobs)
  redis.call('SADD', registry, pending)
  seen.fired, seen.last_due, seen.last_fired_at = (tonumber(seen.fired) or 0) + #jobs, last, now
end
if missed > 0 then seen.missed, seen.missed_at = (tonumber(seen.missed) or 0) + missed, now end
redis.call('HSET', state, name, cjson.encode(seen))
return 'ok'
