#!lua
-- Fires ticks of a schedule: enqueues their jobs and sets the next tick, once, whoever asks and however often.
-- KEYS 1 schedules (hash) 2 due (zset) 3 state (hash) 4 registry (set); then, unless they are on another
--      node and ``fire`` has enqueued the jobs: 5 pending (list) 6 priority (zset) 7 delayed (zset)
--      8 nudge (list) 9 stats (hash)
-- ARGV 1 name 2 the tick that is due (ms) 3 SHA-1 of the definition: both as they were when it was computed
--      4 the last tick of this call (ms) 5 the tick after it (ms) 6 how many ticks are missed 7 the queue
--      8 how many others there are 9… their jobs, in their order, <= 1000, if they are enqueued here
-- Returns 'ok'; 'stale': fired already, or changed meanwhile; 'early': by Redis' clock it is not due
-- include: sound
-- include: now
-- include: head
-- include: place
local schedules, due, state, registry, pending, priority, delayed, nudge, stats = unpack(KEYS)
local name, tick, last, following = ARGV[1], whole(ARGV[2]), whole(ARGV[4]), whole(ARGV[5])
local missed, queue, fires, jobs, now = whole(ARGV[6]), ARGV[7], whole(ARGV[8]), {unpack(ARGV, 9)}, now_ms()
sound('HLEN', 'ZCARD', 'HLEN', 'SCARD')
if pending then
  waiting(pending, priority, delayed, nudge)
  redis.call('HLEN', stats)
end
if fires > 1000 or #jobs ~= (pending and fires or 0) or last < tick or following <= last then
  error('no step of a schedule')
end
for _, job in ipairs(jobs) do if not id_of(job) then error('a job without an id') end end
local definition = redis.call('HGET', schedules, name)
if not definition or redis.sha1hex(definition) ~= ARGV[3] then return 'stale' end
if tonumber(redis.call('ZSCORE', due, name) or 'nan') ~= tick then return 'stale' end
if last > now then return 'early' end
local sane, seen = pcall(cjson.decode, redis.call('HGET', state, name) or '{}')
if not sane or type(seen) ~= 'table' then seen = {} end

redis.call('ZADD', due, following, name)
for _, job in ipairs(jobs) do place(job, pending, priority, nudge, stats) end
if #jobs > 0 then redis.call('HINCRBY', stats, 'enqueued', #jobs) end
if fires > 0 then
  redis.call('SADD', registry, queue)
  seen.fired, seen.last_due, seen.last_fired_at = (tonumber(seen.fired) or 0) + fires, last, now
end
if missed > 0 then seen.missed, seen.missed_at = (tonumber(seen.missed) or 0) + missed, now end
redis.call('HSET', state, name, cjson.encode(seen))
return 'ok'
