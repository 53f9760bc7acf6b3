#!lua
-- Accepts jobs: all of a call, or none. As push, which is for plain jobs, a full Redis may refuse it.
-- KEYS 1 pending (list) 2 priority (zset) 3 delayed (zset) 4 nudge (list) 5 stats (hash)
--      6 unique (string), only with a key: the id of the job that has it
-- ARGV 1 max_pending (jobs; 0: no bound) 2 due: '' now, '+ms' from now, '@ms' since 1970
--      3 id of the one job of a call with a key, else '' 4 key_ttl (ms; 0: until the job ends)
--      5… the jobs' bytes
-- Returns {'ok', 1: as push's 2, or 0}, {'full', waiting}, or {'exists', id of the job that has the key}
-- include: sound
-- include: now
-- include: due
-- include: head
-- include: place
-- include: postpone
local pending, priority, delayed, nudge, stats, unique = unpack(KEYS)
local bound, due, id, ttl, count = whole(ARGV[1]), ARGV[2], ARGV[3], whole(ARGV[4]), #ARGV - 4
if count < 1 or count > 1000 then error('no jobs, or too many') end
redis.call('HLEN', stats)  -- a key of a wrong type has to fail before a job is written
local plain, others = {}, {}
for i = 5, #ARGV do
  local prioritised = string.find(ARGV[i], '^{"id":"[^"]*","priority":')
  local jobs = due == '' and not prioritised and plain or others
  jobs[#jobs + 1] = ARGV[i]
end
if unique then
  local other = redis.call('GET', unique)
  if other then return {'exists', string.match(other, '^[^ ]*')} end
end
local now = now_ms()
local at = due_at(due, now)
local before = waiting(pending, priority, delayed, nudge)
if bound > 0 and before + count > bound then return {'full', before} end

if at > now then postpone(others, at, now, pending, delayed, stats)
else for _, job in ipairs(others) do place(job, pending, priority, nudge, stats) end end
if #plain > 0 then redis.call('LPUSH', pending, unpack(plain)) end
-- A key that goes with its job has an end all the same, a week after the job is due: plain clients
-- that take a job out leave its key behind.
if unique and ttl == 0 then ttl = math.max(0, at - now) + 604800000 end
if unique then redis.call('SET', unique, id, 'PX', number(ttl)) end
return {'ok', redis.call('HINCRBY', stats, 'enqueued', count) == count and 1 or 0}
