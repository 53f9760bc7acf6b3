#!lua flags=allow-oom
-- Adds what a consumer has counted since it told last. Repeated it counts twice, so nobody repeats it.
-- KEYS 1 timings (hash) 2 minutes (hash)
-- ARGV 1 how many tasks have counts of their own 2 what stands for the others 3 how many minutes are kept
--      4 how many of them the counts of a task share, then for each task: its name; numbers, by spaces
-- Returns how many tasks were told
-- include: sound
-- include: now
local timings, minutes = unpack(KEYS)
local most, others, kept, step = whole(ARGV[1]), ARGV[2], whole(ARGV[3], 1), whole(ARGV[4], 1)
sound('HLEN', 'HLEN')
if #ARGV < 6 or #ARGV % 2 ~= 0 then error('no numbers for each task') end
for i = 6, #ARGV, 2 do
  if not string.find(ARGV[i], '^%d[%d ]*$') then error('no numbers: ' .. ARGV[i]) end
end

local function sum(old, new)
  local before, numbers = string.gmatch(old or '', '%d+'), {}
  for n in string.gmatch(new, '%d+') do
    numbers[#numbers + 1] = string.format('%.0f', n + (before() or 0))
  end
  for n in before do numbers[#numbers + 1] = n end  -- of a later version, which counts more
  return table.concat(numbers, ' ')
end

-- A place in a ring: what stands there is of now, or of a day ago, or longer.
local function count(field, at, new)
  local of, numbers = string.match(redis.call('HGET', minutes, field) or '', '^(%d+) (.*)$')
  local old = tonumber(of) == at and numbers or nil
  redis.call('HSET', minutes, field, string.format('%.0f ', at) .. sum(old, new))
end

local minute, all = math.floor(now_ms() / 60000), nil
local part = math.floor(minute / step)
for i = 5, #ARGV, 2 do
  local task, new = ARGV[i], ARGV[i + 1]
  if redis.call('HEXISTS', timings, task) == 0 and redis.call('HLEN', timings) >= most then
    task = others
  end
  redis.call('HSET', timings, task, sum(redis.call('HGET', timings, task), new))
  count(string.format('%.0f ', part % (kept / step)) .. task, part, new)
  all = sum(all, new)
end
count(string.format('%.0f', minute % kept), minute, all)
redis.call('PEXPIRE', minutes, kept * 60000)
return (#ARGV - 4) / 2
