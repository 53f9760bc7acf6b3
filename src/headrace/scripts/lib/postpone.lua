-- Puts jobs where jobs wait for an instant (ms). Whoever promotes is told when they are due before all
-- others there: a hint, which may be lost; a user who may not publish does without.
local function postpone(jobs, at, now, pending, delayed, stats)
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  for _, job in ipairs(jobs) do
    while redis.call('ZADD', delayed, 'NX', at, job) == 0 do job = renamed(job, stats) end
  end
  if not first or at < tonumber(first) then
    redis.pcall('PUBLISH', 'headrace.due', pending .. ' ' .. number(math.max(0, at - now)))
  end
end
