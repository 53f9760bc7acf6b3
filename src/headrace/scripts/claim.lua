#!lua flags=allow-oom
-- Claims jobs for a consumer: those of positive priority, then pending ones, then the others.
-- KEYS 1 pending (list) 2 processing (list) 3 priority (zset) 4 leases (zset) 5 claims (hash)
--      6 nudge (list) 7 stats (hash) 8 meta (hash)
-- ARGV 1 count (jobs, <= 1000) 2 lease (ms) 3 consumer 4 claim number of the first job
-- Returns {'ok' or 'paused', now (ms), job, job, …}
--   A job whose id does not stand first comes without a lease: adopt it.
-- include: sound
-- include: now
-- include: head
local pending, processing, priority, leases, claims, nudge, stats, meta = unpack(KEYS)
local count, lease, consumer, first = whole(ARGV[1]), whole(ARGV[2]), ARGV[3], whole(ARGV[4])
local now = now_ms()
if redis.call('HGET', meta, 'paused') then return {'paused', now} end
local prioritised = redis.call('ZCARD', priority)
if prioritised + redis.call('LLEN', pending) == 0 then return {'ok', now} end

-- A key of a wrong type, or more jobs than unpack can take, have to fail before a job is taken.
redis.call('LLEN', processing) redis.call('ZCARD', leases) redis.call('HLEN', claims)
if count > 1000 then error('too many jobs') end

-- Takes until there are enough, in steps that grow to 32: large jobs stop it after about 1 MiB,
-- and those behind many small ones soon after.
local got, bytes, step = {}, 0, 8
local function fill(take)
  while #got < count and bytes < 1048576 do
    local asked = math.min(step, count - #got)
    local jobs = take(asked) or {}
    for _, job in ipairs(jobs) do
      got[#got + 1] = job
      bytes = bytes + #job
    end
    if #jobs < asked then return end
    step = math.min(step * 2, 32)
  end
end
local function by_priority(low, high)
  return function(n)
    local jobs = redis.call('ZRANGE', priority, low, high, 'BYSCORE', 'LIMIT', 0, n)
    if #jobs > 0 then redis.call('ZREM', priority, unpack(jobs)) end
    return jobs
  end
end
if prioritised > 0 then fill(by_priority('-inf', '(0')) end
fill(function(n) return redis.call('RPOP', pending, n) end)
if prioritised > 0 then
  fill(by_priority('(0', '+inf'))
  if redis.call('ZCARD', priority) == 0 then redis.call('DEL', nudge) end
end
if #got == 0 then return {'ok', now} end

local ids, at, known = {}, {}, {}
for i, job in ipairs(got) do
  local id = id_of(job)
  if id then
    ids[#ids + 1] = id
    at[#at + 1] = i
  end
end
if #ids > 0 then
  local taken = redis.call('HMGET', claims, unpack(ids))
  local deadline, entries, scores = now + lease, {}, {}
  for n, id in ipairs(ids) do
    local i = at[n]
    while taken[n] or known[id] do  -- another job of this id is in processing: one lease an id
      got[i] = renamed(got[i], stats)
      id = id_of(got[i])
      taken[n] = redis.call('HGET', claims, id)
    end
    known[id] = true
    entries[2 * n - 1], entries[2 * n] = id, consumer .. ':' .. number(first + i - 1) .. ' ' .. got[i]
    scores[2 * n - 1], scores[2 * n] = deadline, id
  end
  redis.call('HSET', claims, unpack(entries))
  redis.call('ZADD', leases, unpack(scores))
end
redis.call('LPUSH', processing, unpack(got))
return {'ok', now, unpack(got)}
