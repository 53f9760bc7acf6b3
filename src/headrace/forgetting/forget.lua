#!lua flags=allow-oom
-- Forgets a queue that holds nothing and has not been used for a while, and tells what it has counted.
-- KEYS 1 pending (list) 2 processing (list) 3 priority (zset) 4 delayed (zset) 5 dead (list)
--      6 leases (zset) 7 claims (hash) 8 limited (hash) 9 moving (list) 10 stats (hash)
--      11 meta (hash) 12 timings (hash) 13 minutes (hash)
-- ARGV 1 for how long nothing has been counted (ms; 0: that does not matter). The time begins when it
--   is asked first, and again whenever something has been counted, or a consumer has said it is there
-- Returns {'forgotten', counter, n, …}; {'used'}: it holds something, or has been used; {'paused'}: that
--   would be forgotten too
-- include: sound
-- include: now
-- include: head
local pending, processing, priority, delayed, dead, leases, claims = unpack(KEYS)
local limited, moving, stats, meta, timings, minutes = unpack(KEYS, 8)
local idle = whole(ARGV[1])
sound('LLEN', 'LLEN', 'ZCARD', 'ZCARD', 'LLEN', 'ZCARD', 'HLEN', 'HLEN', 'LLEN', 'HLEN', 'HLEN')
local paused, unused = unpack(redis.call('HMGET', meta, 'paused', 'unused'))
if redis.call('EXISTS', unpack(KEYS, 1, 9)) > 0 then
  if unused then redis.call('HDEL', meta, 'unused') end
  return {'used'}
end
if paused then return {'paused'} end
local counters, sum = redis.call('HGETALL', stats), 0
for i = 2, #counters, 2 do sum = sum + (tonumber(string.match(counters[i], '^%d+$')) or 0) end
if idle > 0 then
  local since, counted = string.match(unused or '', '^(%d+) (%d+)$')
  if counted ~= number(sum) then
    redis.call('HSET', meta, 'unused', number(now_ms()) .. ' ' .. number(sum))
    return {'used'}
  end
  if now_ms() - since < idle then return {'used'} end
end
redis.call('DEL', stats, meta, timings, minutes)
return {'forgotten', unpack(counters)}
