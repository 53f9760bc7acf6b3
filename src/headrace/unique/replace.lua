#!lua
-- Accepts a job under a key that another one may have: one that has not begun makes room for it, or is
-- put off in its stead. One that has begun goes on; then this one comes in beside it, and has the key.
-- KEYS 1 pending (list) 2 processing (list) 3 priority (zset) 4 delayed (zset) 5 nudge (list)
--      6 stats (hash) 7 claims (hash) 8 cancelled (zset)
--      9 unique (string): the id of the job that has the key, a space, its bytes as it was enqueued
-- ARGV 1 'replace' or 'debounce' 2 max_pending (jobs; 0: no bound) 3 due: '' now, '+ms' from now,
--      '@ms' since 1970 4 id 5 the job's bytes 6 how long a job that was taken out is remembered (ms)
--      7 id of a job that was looked for ('' none) 8 its bytes where it waits; '' it does not wait
-- Returns {'ok', 1: as push's 2, or 0}, {'full', waiting}; {'exists', id}: put off, due as it is, or this
--   job itself; {'look', id}: that job does not wait under the bytes of its enqueue: look for it
-- include: sound
-- include: now
-- include: due
-- include: head
-- include: place
-- include: postpone
local pending, processing, priority, delayed, nudge, stats, claims, cancelled, unique = unpack(KEYS)
local mode, bound, due, id, job, ttl = ARGV[1], whole(ARGV[2]), ARGV[3], ARGV[4], ARGV[5], whole(ARGV[6], 1)
sound('LLEN', 'LLEN', 'ZCARD', 'ZCARD', 'LLEN', 'HLEN', 'HLEN', 'ZCARD')
if mode ~= 'replace' and mode ~= 'debounce' then error('no such mode') end
if id_of(job) ~= id or not ARGV[8] then error('not the id of these bytes, or no arguments') end
local now, held = now_ms(), redis.call('GET', unique)
local at = due_at(due, now)

-- A week beyond its time, as in enqueue: plain clients that take a job out leave its key behind.
local function hold(value) redis.call('SET', unique, value, 'PX', number(math.max(0, at - now) + 604800000)) end

local _, stop, other = string.find(held or '', '^([^ ]+) ?')
if other == id then return {'exists', id} end
local looked = other and ARGV[7] == other
local begun = not other or redis.call('HEXISTS', claims, other) == 1 or (looked and ARGV[8] == '')
local old = looked and ARGV[8] or (not begun and string.sub(held, stop + 1))
local taken = 0
if not begun then
  if id_of(old) ~= other then return {'look', other} end
  if mode == 'debounce' then
    if redis.call('ZREM', delayed, old) == 1 then
      postpone({old}, math.max(at, now), now, pending, delayed, stats)
      hold(held)
      return {'exists', other}
    end
    if redis.call('ZSCORE', priority, old) or redis.call('LPOS', pending, old) then return {'exists', other} end
  else
    taken = redis.call('ZREM', delayed, old) + redis.call('ZREM', priority, old)
    if taken == 0 then taken = redis.call('LREM', pending, 1, old) end
  end
  if taken == 0 and not looked and not redis.call('LPOS', processing, old) then return {'look', other} end
end
local before = waiting(pending, priority, delayed, nudge)
if taken == 0 and bound > 0 and before + 1 > bound then return {'full', before} end
if taken == 1 then  -- as if it had been cancelled; and it is known how often that was for another one's sake
  redis.call('ZREMRANGEBYSCORE', cancelled, '-inf', now - ttl)
  redis.call('ZADD', cancelled, now, other)
  redis.call('PEXPIRE', cancelled, ttl)
  redis.call('HINCRBY', stats, 'cancel', 1)
  redis.call('HINCRBY', stats, 'replaced', 1)
end
if at > now then postpone({job}, at, now, pending, delayed, stats)
else place(job, pending, priority, nudge, stats) end
hold(id .. ' ' .. job)
return {'ok', redis.call('HINCRBY', stats, 'enqueued', 1) == 1 and 1 or 0}
