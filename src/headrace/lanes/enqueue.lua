#!lua
-- Accepts jobs for lanes, all of a call or none, and lets out what may run.
-- KEYS 1 limited (hash) 2 lanes (zset) 3 slots (zset) 4 admitted (zset) 5 limits (hash)
--      6 buckets (hash) 7 pending (list) 8 priority (zset) 9 nudge (list) 10 stats (hash)
--      11 delayed (zset)
-- ARGV 1 max_pending (jobs; 0: no bound), then for each job: its lane; its bytes
-- Returns {'ok', 1: nothing had been counted here, else 0} or {'full', waiting}
-- include: sound
-- include: head
-- include: lanes/lib/lanes
-- include: lanes/lib/admission
-- include: lanes/lib/out
-- include: lanes/lib/turns
local delayed = KEYS[11]
local bound, count = whole(ARGV[1]), (#ARGV - 1) / 2
if count < 1 or count > 1000 or count % 1 ~= 0 then error('no jobs, or too many') end
for i = 2, #ARGV, 2 do
  if not is_lane(ARGV[i]) then error('no lane: ' .. ARGV[i]) end
  if not id_of(ARGV[i + 1]) then error('a job without an id') end
end
local before = redis.call('HLEN', limited) + redis.call('LLEN', pending) + redis.call('ZCARD', priority)
  + redis.call('ZCARD', delayed)
if bound > 0 and before + count > bound then return {'full', before} end
for i = 2, #ARGV, 2 do wait(ARGV[i + 1], ARGV[i], now) end
local enqueued = redis.call('HINCRBY', stats, 'enqueued', count)
take_turns({})
return {'ok', enqueued == count and 1 or 0}
