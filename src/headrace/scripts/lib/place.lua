-- Puts a job where jobs wait: the pending list, or by its priority. n prioritised jobs push n
-- nudges, because blocked clients are served only after the script has ended.
local function place(job, pending, priority, nudge, stats, front)
  local p = priority_of(job)
  if p == 0 then return redis.call(front and 'RPUSH' or 'LPUSH', pending, job) end
  while redis.call('ZADD', priority, -p, job) == 0 do job = renamed(job, stats) end
  redis.call('LPUSH', nudge, '')
  redis.call('LTRIM', nudge, 0, 999)
  redis.call('PEXPIRE', nudge, 60000)
end

-- How many jobs wait. Asked before the first write: a key of a wrong type has to fail here, for a
-- script that fails half way is not rolled back.
local function waiting(pending, priority, delayed, nudge)
  redis.call('LLEN', nudge)
  return redis.call('LLEN', pending) + redis.call('ZCARD', priority) + redis.call('ZCARD', delayed)
end
