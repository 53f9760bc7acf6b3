-- The lanes of a queue. A job that waits for a limit stands in `limited`: id -> its lane, its rank, its
-- bytes. Its turn is a member of `lanes`: lane, space, rank (15 digits), id. All of them have the score 0,
-- so they stand in the order of their bytes: lane by lane, each by rank and id.
-- What was admitted and has to be counted, in `slots` until it ends and in `admitted` until a consumer
-- has it, is a member: lane, number, id. A lane is the name of a limit ("*": the queue's), "/", and a key,
-- which may be empty: then limits for each key do not hold for it.
local limited, lanes, slots, admitted, limits, buckets, pending, priority, nudge, stats = unpack(KEYS)
sound('HLEN', 'ZCARD', 'ZCARD', 'ZCARD', 'HLEN', 'HLEN', 'LLEN', 'ZCARD', 'LLEN', 'HLEN')
local PERMIT = ',"admitted":"(%d+) (%d+) ([]-~!#-[]+)"}%s*$'
local clock = redis.call('TIME')
local now_us = clock[1] * 1e6 + clock[2]
local now = math.floor(now_us / 1000)

local function is_lane(lane) return string.find(lane, '^[]-~!#-.0-[]+/[]-~!#-.0-[]*$') and #lane <= 2000 end

-- Limits as they were declared, or as an operator has set them ("!" in front).
local config
local function configure()
  config = {}
  local read = redis.call('HGETALL', limits)
  for i = 1, #read, 2 do
    local set, name = string.match(read[i], '^(!?)(.*)$')
    if set == '!' or not config[name] then config[name] = read[i + 1] end
  end
  -- A partition has its share of what bounds the whole queue: one at least at once, and after a rest.
  local number, count = string.match(config['*part'] or '', '^(%d+) (%d+)$')
  local rate, burst, most = string.match(config['*'] or '', '^(%S+) (%S+) (%S+)$')
  if not count or not rate then return end
  if tonumber(rate) > 0 then burst = math.max(1, math.floor(burst / count)) end
  if tonumber(most) > 0 then
    most = math.max(1, math.floor(most / count) + (tonumber(number) < most % count and 1 or 0))
  end
  config['*'] = string.format('%.12g %.0f %.0f', rate / count, burst, most)
end
configure()
-- Each point of a priority is worth so much waiting, ms: so jobs age, and none waits for ever.
local age = tonumber(config['*age']) or 60000

-- Puts a job into its lane. It is called before its old place is given up.
local function wait(job, lane, since)
  local rank = string.format('%015.0f', math.max(0, math.min(since, now) - priority_of(job) * age))
  while redis.call('HSETNX', limited, id_of(job), lane .. ' ' .. rank .. ' ' .. job) == 0 do
    job = renamed(job, stats)
  end
  redis.call('ZADD', lanes, 0, lane .. ' ' .. rank .. id_of(job))
end

-- The lane, the rank and the bytes of a job that waits in a lane, or nil.
local function waits(id)
  return string.match(redis.call('HGET', limited, id) or '', '^(%S+) (%d+) (.*)$')
end

-- The same job, with the permit to run now. It ends with the run, for `delivery` grows with each return.
local function permitted(job, lane, number)
  local _, at = priority_of(job)
  local delivery = counter(job, at, '^,"delivery":(%d+)')
  local stop = string.find(job, PERMIT) or string.find(job, '}%s*$')
  return string.sub(job, 1, (stop or 0) - 1) .. ',"admitted":"' .. string.format('%.0f', delivery)
    .. ' ' .. number .. ' ' .. lane .. '"}'
end
