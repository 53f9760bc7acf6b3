#!lua flags=allow-oom
-- Counts every place of queues, each at one instant.
-- KEYS for each queue: pending (list); processing (list); priority (zset); delayed (zset); dead (list);
--      leases (zset); claims (hash); stats (hash); meta (hash); limited (hash)
-- ARGV none
-- Returns for each queue {now (ms), pending, priority, delayed, processing, dead, leases, claims,
--   paused (0, 1), head of the oldest pending job, head of the first prioritised one,
--   next due (ms; '' none), {counter, value, …}, limited}
-- include: now
local WIDTH, now, seen = 10, now_ms(), {}
if #KEYS == 0 or #KEYS % WIDTH ~= 0 then error('ten keys belong to a queue') end
for at = 1, #KEYS, WIDTH do
  local pending, processing, priority, delayed, dead, leases, claims, stats, meta = unpack(KEYS, at, at + 8)
  local waiting, prioritised = redis.call('LLEN', pending), redis.call('ZCARD', priority)
  local later = redis.call('ZCARD', delayed)
  seen[#seen + 1] = {
    now, waiting, prioritised, later, redis.call('LLEN', processing), redis.call('LLEN', dead),
    redis.call('ZCARD', leases), redis.call('HLEN', claims), redis.call('HGET', meta, 'paused') and 1 or 0,
    waiting > 0 and string.sub(redis.call('LINDEX', pending, -1), 1, 200) or '',
    prioritised > 0 and string.sub(redis.call('ZRANGE', priority, 0, 0)[1], 1, 200) or '',
    later > 0 and redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2] or '',
    redis.call('HGETALL', stats), redis.call('HLEN', KEYS[at + 9]),
  }
end
return seen
