-- Puts a job where jobs wait: the pending list, or by its priority. n prioritised jobs push n
-- nudges, because blocked clients are served only after the script has ended.
local function place(job, pending, priority, nudge, stats, front)
  local p = tonumber(string.match(job, '^{"id":"[^"]*","priority":(%-?%d+)') or 0)
  if p == 0 then return redis.call(front and 'RPUSH' or 'LPUSH', pending, job) end
  while redis.call('ZADD', priority, -p, job) == 0 do job = renamed(job, stats) end
  redis.call('LPUSH', nudge, '')
  redis.call('LTRIM', nudge, 0, 999)
  redis.call('PEXPIRE', nudge, 60000)
end
