-- A workflow here is a table: `at`, its keys are KEYS[at] and on: hash, ended (bitmap), results (hash),
-- rest (list), unfinished (zset), told (list); `first`, of each of its queues five are KEYS[first] and on;
-- and what its hash holds.

-- A job's bytes: each of its parts is bytes, the number of a member whose result belongs there, or
-- pairs of the first and last of those whose results belong there as a list.
local function filled(parts, results)
  local out = {}
  for i, part in ipairs(parts) do
    if type(part) == 'string' then out[i] = part
    elseif type(part) == 'number' then out[i] = redis.call('HGET', results, part) or 'null'
    else
      local values = {}
      for _, range in ipairs(part) do
        for n = range[1], range[2] do values[#values + 1] = redis.call('HGET', results, n) or 'null' end
      end
      out[i] = '[' .. table.concat(values, ',') .. ']'
    end
  end
  return table.concat(out)
end

-- Puts a member where jobs wait: its queue's number, its due, and its parts are a MessagePack array.
local function open(flow, record, now)
  local to, due, parts = unpack(cmsgpack.unpack(record))
  accept(flow.first + 5 * to, due_at(due, now), filled(parts, KEYS[flow.at + 2]), now)
  flow.running, flow.opened = flow.running + 1, true
end

-- Opens some of those that wait for nobody, as far as the window allows.
local function open_rest(flow, most, now)
  local room = math.min(most, flow.rest, flow.window - flow.running)
  for _, record in ipairs(room > 0 and redis.call('LPOP', KEYS[flow.at + 3], room) or {}) do
    open(flow, record, now)
  end
end

local function save(flow)
  redis.call('HSET', KEYS[flow.at], 'state', flow.state, 'left', flow.left, 'running', flow.running,
    'failed', flow.failed, 'size', flow.size)
end

local function over(at, id, told, keep)
  redis.call('ZREM', KEYS[at + 4], id)
  redis.call('DEL', KEYS[at + 3])
  tell(KEYS[at + 5], told, keep)
  for key = at, at + 2 do redis.call('PEXPIRE', KEYS[key], keep) end
end
