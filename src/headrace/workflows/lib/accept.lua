-- Fails, before the first write, if a queue's keys are not what they have to be: its pending,
-- priority, delayed, nudge and stats are KEYS[at] and on. Returns how many jobs wait there.
local function can_accept(at)
  local pending, priority, delayed, nudge, stats = unpack(KEYS, at, at + 4)
  redis.call('HLEN', stats)
  return waiting(pending, priority, delayed, nudge)
end

-- Accepts a job into that queue, for an instant (ms).
local function accept(at, when, job, now)
  local pending, priority, delayed, nudge, stats = unpack(KEYS, at, at + 4)
  if when > now then postpone({job}, when, now, pending, delayed, stats)
  else place(job, pending, priority, nudge, stats) end
  redis.call('HINCRBY', stats, 'enqueued', 1)
end
