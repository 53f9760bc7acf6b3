#!lua
-- Accepts jobs: all of a call, or none. The only script that a full Redis may refuse.
-- KEYS 1 pending (list) 2 priority (zset) 3 delayed (zset) 4 nudge (list) 5 stats (hash)
--      6 unique (string), only with a key: the id of the job that has it
-- ARGV 1 max_pending (jobs; 0: no bound) 2 due: '' now, '+ms' from now, '@ms' since 1970
--      3 id of the one job of a call with a key, else '' 4 key_ttl (ms) 5… the jobs' bytes
-- Returns {'ok'}, {'full', waiting}, or {'exists', id of the job that has the key}
-- include: now
-- include: head
-- include: place
local pending, priority, delayed, nudge, stats, unique = unpack(KEYS)
local bound, due, id, count = tonumber(ARGV[1]), ARGV[2], ARGV[3], #ARGV - 4

if unique then
  local other = redis.call('GET', unique)
  if other then return {'exists', other} end
end
if bound > 0 then
  local waiting = redis.call('LLEN', pending) + redis.call('ZCARD', priority)
    + redis.call('ZCARD', delayed)
  if waiting + count > bound then return {'full', waiting} end
end
local at = 0
if due ~= '' then
  local ms = tonumber(string.sub(due, 2))
  at = string.sub(due, 1, 1) == '+' and now_ms() + ms or ms
  if at <= now_ms() then at = 0 end
end

if unique then redis.call('SET', unique, id, 'PX', ARGV[4]) end
local plain = {}
for i = 5, #ARGV do
  local job = ARGV[i]
  if at > 0 then
    while redis.call('ZADD', delayed, at, job) == 0 do job = renamed(job, stats) end
  elseif string.find(job, '^{"id":"[^"]*","priority":') then
    place(job, pending, priority, nudge, stats)
  else
    plain[#plain + 1] = job
  end
end
if #plain > 0 then redis.call('LPUSH', pending, unpack(plain)) end
redis.call('HINCRBY', stats, 'enqueued', count)
return {'ok'}
