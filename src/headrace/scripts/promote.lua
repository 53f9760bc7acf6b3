#!lua flags=allow-oom
-- Moves due delayed jobs to where they wait their turn, in the order in which they fell due.
-- KEYS 1 pending (list) 2 priority (zset) 3 delayed (zset) 4 nudge (list) 5 stats (hash)
-- ARGV 1 limit (jobs, <= 1000)
-- Returns {how many, ms until the next one is due (0: there are more due now; '' none)}
-- include: sound
-- include: now
-- include: head
-- include: place
local pending, priority, delayed, nudge, stats = unpack(KEYS)
local limit, moved, bytes, step = whole(ARGV[1]), 0, 0, 8
local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
if not first then return {0, ''} end
local now = now_ms()
sound('LLEN', 'ZCARD', 'ZCARD', 'LLEN', 'HLEN')
while moved < limit and bytes < 1048576 do
  local asked = math.min(step, limit - moved)
  local jobs = redis.call('ZRANGE', delayed, '-inf', now, 'BYSCORE', 'LIMIT', 0, asked)
  for _, job in ipairs(jobs) do
    place(job, pending, priority, nudge, stats)
    bytes = bytes + #job
  end
  if #jobs > 0 then redis.call('ZREM', delayed, unpack(jobs)) end
  moved = moved + #jobs
  if #jobs < asked then break end
  step = math.min(step * 2, 32)
end
local due = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
return {moved, due and math.min(math.max(0, due - now), 1e12) or ''}
