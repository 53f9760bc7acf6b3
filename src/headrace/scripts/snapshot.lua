#!lua flags=allow-oom
-- Counts every place of queues, each at one instant.
-- KEYS for each queue: pending (list); processing (list); priority (zset); delayed (zset); dead (list);
--      leases (zset); claims (hash); stats (hash); meta (hash); limited (hash)
-- ARGV none
-- Returns for each queue {now (ms), pending, priority, delayed, processing, dead, leases, claims,
--   paused (0, 1), head of the oldest pending job, head of the first prioritised one,
--   next due (ms; '' none), {counter, value, …}, limited}
-- include: now
-- elsewhere: whether the queue at hand holds anything but pending jobs
local WIDTH, now, seen, elsewhere = 10, now_ms(), {}, false
if #KEYS == 0 or #KEYS % WIDTH ~= 0 then error('ten keys belong to a queue') end
local function count(how, key) return elsewhere and redis.call(how, key) or 0 end
for at = 1, #KEYS, WIDTH do
  local pending, processing, priority, delayed, dead, leases, claims, stats, meta = unpack(KEYS, at, at + 8)
  -- Where queues are very many, most hold nothing there: one command instead of seven.
  elsewhere = redis.call('EXISTS', processing, priority, delayed, dead, leases, claims, KEYS[at + 9]) > 0
  local waiting = redis.call('LLEN', pending)
  local prioritised, later = count('ZCARD', priority), count('ZCARD', delayed)
  seen[#seen + 1] = {
    now, waiting, prioritised, later, count('LLEN', processing), count('LLEN', dead),
    count('ZCARD', leases), count('HLEN', claims), redis.call('HGET', meta, 'paused') and 1 or 0,
    waiting > 0 and string.sub(redis.call('LINDEX', pending, -1), 1, 200) or '',
    prioritised > 0 and string.sub(redis.call('ZRANGE', priority, 0, 0)[1], 1, 200) or '',
    later > 0 and redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2] or '',
    redis.call('HGETALL', stats), count('HLEN', KEYS[at + 9]),
  }
end
return seen
