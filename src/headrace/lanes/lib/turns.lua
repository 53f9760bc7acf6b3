-- Lets jobs out of their lanes as far as limits allow, and not further ahead of the consumers than `window`:
-- of each limit's lanes one in turn, and one limit after the other. LOOKS bounds those that were in vain.
local window, LOOKS = 64, 400
local looked, served = 0, {}

local function first_of(from, to)
  return redis.call('ZRANGE', lanes, from, to, 'BYLEX', 'LIMIT', 0, 1)[1]
end

-- The next turn in the lanes of a name, and the limits of that lane; nil, and the limit that holds back all.
local function next_of(name)
  local last = served[name] or redis.call('HGET', buckets, '*at ' .. name)
  local from, past, lane = last and '[' .. last .. '!' or '[' .. name .. '/', not last, nil
  while looked < LOOKS do
    looked = looked + 1
    local member = first_of(from, '(' .. name .. '0')
    if member then
      lane = turn_of(member)
      if past and last and lane > last then return nil end
      local found = limits_of(lane)
      local by = full(found)
      if not by then
        served[name] = lane
        return member, found
      end
      if by.name ~= lane then return nil, by end
      from = '[' .. lane .. '!'
    elseif past then return nil
    else from, past = '[' .. name .. '/', true end
  end
  served[name] = lane or last  -- the next look goes on there
end

-- Answers whether there are more lanes than it has looked at, and how many were let out; `told`: lanes in which there is room now.
local function take_turns(told)
  local room = window - redis.call('ZCOUNT', priority, '(-1', '(0')
  local before = redis.call('HGET', buckets, '*at') or ''
  local at, out, bytes, lap, idle = before, 0, 0, 0, before == ''
  while out < room and looked < LOOKS and bytes < 1048576 do
    looked = looked + 1
    local member = first_of(at == '' and '-' or '[' .. at .. '0', '+')
    if member then
      at = string.match(member, '^[^/]*')
      local turn, found = next_of(at)
      if turn then
        bytes, out, lap, looked = bytes + let_out(turn, found), out + 1, lap + 1, math.max(0, looked - 4)
      elseif found and found.name == '*' then break end
    else
      if at == '' or (lap == 0 and idle) then break end
      if lap > 0 then out = out + let_past() end
      at, lap, idle = '', 0, true
    end
  end
  for i = 1, looked >= LOOKS and math.min(#told, room - out) or 0 do  -- they may be far away
    local lane = string.match(told[i], '^(%S+) ') or '*/'
    local turn, found = first_of('[' .. lane .. ' ', '(' .. lane .. '!'), limits_of(lane)
    if turn and not full(found) then
      let_out(turn, found)
      out = out + 1
    end
  end
  if at ~= before then redis.call('HSET', buckets, '*at', at) end
  for name, lane in pairs(served) do redis.call('HSET', buckets, '*at ' .. name, lane) end
  keep_buckets()
  for _ = 1, out do redis.call('LPUSH', nudge, '') end
  if out > 0 then
    redis.call('LTRIM', nudge, 0, 999)
    redis.call('PEXPIRE', nudge, 60000)
  end
  return looked >= LOOKS, out
end
