-- How much room each limit leaves. Limits stand in `config` as "rate burst most": tokens a second, how many
-- of them are kept (0 and 0: no rate), how many jobs at once (0: no bound).
local SLACK = 0.25  -- of a token, kept beyond the burst: whoever keeps the time may be late by so much

-- How many of a set belong to a limit: to the queue, to a lane, or to all lanes of a name.
local function members(set, name)
  if name == '*' then return redis.call('ZCARD', set) end
  if string.find(name, '/', 1, true) then
    return redis.call('ZLEXCOUNT', set, '[' .. name .. ' ', '(' .. name .. '!')
  end
  return redis.call('ZLEXCOUNT', set, '[' .. name .. '/', '(' .. name .. '0')
end

-- A limit as it stands now. What has a token and is not at a consumer yet counts against the burst:
-- else all that was admitted while no consumer was there would begin at once.
local known, order = {}, {}
local function limit(name, of)
  local rate, burst, most = string.match(config[of] or '', '^(%S+) (%S+) (%S+)$')
  if not rate then return nil end
  local one = known[name]
  if not one then
    one = {name = name, rate = tonumber(rate), most = tonumber(most), used = 0, tokens = 1, free = 1}
    if one.most > 0 then one.used = members(slots, name) end
    if one.rate > 0 then
      local left, at = string.match(redis.call('HGET', buckets, name) or '', '^(%S+) (%d+)$')
      one.free = math.max(0, burst - members(admitted, name))
      one.tokens = one.free + SLACK
      if left and tonumber(at) <= now_us then  -- else the clock was set back
        one.tokens = math.min(one.tokens, left + (now_us - at) * rate / 1e6)
      end
    end
    known[name], order[#order + 1] = one, one
  end
  return one
end

-- All limits that hold for a lane, the widest first.
local function limits_of(lane)
  local name, found = string.match(lane, '^[^/]*'), {limit('*', '*')}
  if name ~= '*' then found[#found + 1] = limit(name, name) end
  if name .. '/' ~= lane then found[#found + 1] = limit(lane, name .. '/*') end
  return found
end

-- The first of them that leaves no room, or nil.
local function full(found)
  for _, one in ipairs(found) do
    if one.rate > 0 and (one.free < 1 or one.tokens < 1) then return one end
    if one.most > 0 and one.used >= one.most then return one end
  end
end

local function keep_buckets()
  for _, one in ipairs(order) do
    if one.rate > 0 then
      redis.call('HSET', buckets, one.name, string.format('%.9g %.0f', one.tokens, now_us))
    end
  end
end

-- Takes out of the counts what has come to a consumer, and what has ended. What buckets have filled up until
-- now, they have filled up under the old counts.
local function count_out(come, ended)
  for pass = 1, 2 do
    known, order = {}, {}
    for _, told in ipairs({come, ended}) do
      for _, member in ipairs(told) do limits_of(string.match(member, '^(%S+) ') or '*/') end
    end
    if pass == 1 then
      keep_buckets()
      if #come > 0 then redis.call('ZREM', admitted, unpack(come)) end
      if #ended > 0 then redis.call('ZREM', slots, unpack(ended)) end
    end
  end
end
