-- The instant (ms) that a due says: '' now, '+ms' from now, '@ms' since 1970.
local function due_at(due, now)
  if due == '' then return 0 end
  local ms = whole(string.sub(due, 2))
  return string.sub(due, 1, 1) == '+' and now + ms or ms
end

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
  if when <= now then
    place(job, pending, priority, nudge, stats)
  else
    while redis.call('ZADD', delayed, 'NX', when, job) == 0 do job = renamed(job, stats) end
  end
  redis.call('HINCRBY', stats, 'enqueued', 1)
end
