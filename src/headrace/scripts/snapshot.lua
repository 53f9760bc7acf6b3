#!lua flags=allow-oom
-- Counts every place of a queue at one instant.
-- KEYS 1 pending (list) 2 processing (list) 3 priority (zset) 4 delayed (zset) 5 dead (list)
--      6 leases (zset) 7 claims (hash) 8 stats (hash) 9 meta (hash)
-- ARGV none
-- Returns {now (ms), pending, priority, delayed, processing, dead, leases, claims, paused (0, 1),
--   head of the oldest pending job, head of the first prioritised one, next due (ms; '' none),
--   {counter, value, …}}
-- include: now
local pending, processing, priority, delayed, dead, leases, claims, stats, meta = unpack(KEYS)
local first = redis.call('ZRANGE', priority, 0, 0)[1]
return {
  now_ms(), redis.call('LLEN', pending), redis.call('ZCARD', priority), redis.call('ZCARD', delayed),
  redis.call('LLEN', processing), redis.call('LLEN', dead), redis.call('ZCARD', leases),
  redis.call('HLEN', claims), redis.call('HGET', meta, 'paused') and 1 or 0,
  string.sub(redis.call('LINDEX', pending, -1) or '', 1, 200), string.sub(first or '', 1, 200),
  redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2] or '', redis.call('HGETALL', stats),
}
