#!lua flags=allow-oom
-- Takes jobs from where they wait, and dead letters, to be moved to another server: they are in
-- `moving` until they have arrived there. What was taken before and has not left yet comes first, alone.
-- KEYS 1 limited (hash) 2 lanes (zset) 3 slots (zset) 4 admitted (zset) 5 limits (hash)
--      6 buckets (hash) 7 pending (list) 8 priority (zset) 9 nudge (list) 10 stats (hash)
--      11 delayed (zset) 12 dead (list) 13 moving (list): the name of the batch, then its entries
-- ARGV 1 what the batch is called, if it is a new one 2 limit (jobs, <= 1000)
-- Returns the batch: its name, then its entries, each a place, a detail ('-', the lane, when it is due in
--   ms) and the job's bytes, with spaces between; nothing when there is nothing to be moved
-- include: sound
-- include: head
-- include: lanes/lib/lanes
-- include: lanes/lib/admission
-- include: lanes/lib/out
local delayed, dead, moving = KEYS[11], KEYS[12], KEYS[13]
local batch, most, bytes, step, permits = {ARGV[1]}, whole(ARGV[2]), 0, 4, {}
redis.call('ZCARD', delayed) redis.call('LLEN', dead)
local before = redis.call('LRANGE', moving, 0, -1)
if #before > 0 then return before end

-- Takes a place in steps: `read` gives up to n of what stands there, `entry` what is sent for one of
-- them, `forget` takes them out. An entry is written before its old place is given up.
local function take(read, entry, forget)
  while bytes < 1048576 and #batch <= most do
    local found, sent = read(math.min(step, most + 1 - #batch)), {}
    if #found == 0 then return end
    step = math.min(step * 2, 32)  -- they may be large
    for _, one in ipairs(found) do sent[#sent + 1] = entry(one) end
    if #batch == 1 and #sent > 0 then redis.call('RPUSH', moving, batch[1]) end
    if #sent > 0 then redis.call('RPUSH', moving, unpack(sent)) end
    forget(found)
    for _, one in ipairs(sent) do batch[#batch + 1], bytes = one, bytes + #one end
  end
end

-- What was let out of a lane goes back into it there: whether it may run is another server's matter now.
local function prioritised(job)
  local _, number, lane = string.match(job, PERMIT)
  if not lane then return (priority_of(job) == 0 and 'pending - ' or 'priority - ') .. job end
  permits[#permits + 1] = lane .. ' ' .. number .. ' ' .. (id_of(job) or '')
  return 'limited ' .. lane .. ' ' .. string.sub(job, 1, string.find(job, PERMIT) - 1) .. '}'
end
take(function(n) return redis.call('ZRANGE', priority, 0, n - 1) end, prioritised,
  function(jobs) redis.call('ZREM', priority, unpack(jobs)) end)
if #permits > 0 then count_out(permits, permits) end

take(function(n) return redis.call('ZRANGE', lanes, 0, n - 1) end, function(member)
  local lane, id = turn_of(member)
  local _, _, job = waits(id)
  return job and 'limited ' .. lane .. ' ' .. job
end, function(members)
  for _, member in ipairs(members) do redis.call('HDEL', limited, (select(2, turn_of(member)))) end
  redis.call('ZREM', lanes, unpack(members))
end)

-- Lists give who is next, or died first: it stands on the right.
for _, one in ipairs({{'pending', pending}, {'dead', dead}}) do
  local place, list = unpack(one)
  take(function(n)
    local found, turned = redis.call('LRANGE', list, -n, -1), {}
    for i = #found, 1, -1 do turned[#turned + 1] = found[i] end
    return turned
  end, function(job) return place .. ' - ' .. job end, function(jobs) redis.call('RPOP', list, #jobs) end)
end

take(function(n)
  local found, jobs = redis.call('ZRANGE', delayed, 0, n - 1, 'WITHSCORES'), {}
  for i = 1, #found, 2 do jobs[#jobs + 1] = {found[i], tonumber(found[i + 1])} end
  return jobs
end, function(one)
  return 'delayed ' .. number(math.max(0, math.min(one[2], 2 ^ 53))) .. ' ' .. one[1]
end, function(jobs) for _, one in ipairs(jobs) do redis.call('ZREM', delayed, one[1]) end end)

if #batch == 1 then return {} end
redis.call('HINCRBY', stats, 'moved', #batch - 1)
return batch
