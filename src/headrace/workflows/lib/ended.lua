local MAX_RESULTS = 1048576  -- bytes together: they become an argument

-- Reads a workflow whose member n has ended; nil: there is nothing to note. Whatever will be written is
-- looked at here, before the first write. It uses so many queues.
local function looked_at(at, first, queues, n)
  local hash, ended, results, rest, unfinished = unpack(KEYS, at, at + 4)
  local state, policy, keep, id, edges, window, left, running, failed, size = unpack(redis.call('HMGET', hash,
    'state', 'policy', 'keep', 'id', 'edges', 'window', 'left', 'running', 'failed', 'size'))
  if state ~= 'running' and state ~= 'failed' or redis.call('GETBIT', ended, n) == 1 then return nil end
  local after, needs, opens = {}, {}, false
  for _, edge in ipairs(cmsgpack.unpack(edges)) do
    for _, other in ipairs(n >= edge[1] and n <= edge[2] and edge[3] or {}) do
      after[#after + 1], needs[#needs + 1] = other, 'need:' .. other
    end
  end
  for _, need in ipairs(#needs > 0 and redis.call('HMGET', hash, unpack(needs)) or {}) do
    opens = opens or need == '1'
  end
  rest = redis.call('LLEN', rest)
  redis.call('HLEN', results)
  redis.call('ZCARD', unfinished)
  if opens or rest > 0 then for q = 0, queues - 1 do can_accept(first + 5 * q) end end
  return {at = at, first = first, n = n, after = after, rest = rest, state = state, policy = policy,
    keep = keep, id = id, window = tonumber(window), left = tonumber(left), running = tonumber(running),
    failed = tonumber(failed), size = tonumber(size)}
end

-- Notes that the member has ended, and opens what waited for it. `value` is its result as JSON, '' if
-- nobody wants it; `why` says as JSON how it failed, '' if it did not.
local function note_end(flow, value, why, now)
  local hash, ended, results = unpack(KEYS, flow.at, flow.at + 2)
  if why == '' and flow.size + #value > MAX_RESULTS then
    why = '{"reason":"too_large","message":"the results of a workflow take more than 1 MiB together"}'
  end
  local before = flow.failed > 0 and redis.call('HDEL', hash, 'dead:' .. flow.n) or 0
  flow.failed = flow.failed - before + (why == '' and 0 or 1)
  flow.running = flow.running - 1 + before  -- a dead one has left its room to others before
  if why ~= '' then
    redis.call('HSET', hash, 'dead:' .. flow.n, why)
    if flow.policy == 'stop' then
      flow.state = 'failed'
      tell(KEYS[flow.at + 5], '{"state":"dead","error":' .. why .. '}', flow.keep)
      open_rest(flow, 2, now)
      return save(flow)
    end
    value = '{"error":' .. why .. '}'
  end
  redis.call('SETBIT', ended, flow.n, 1)
  if value ~= '' then redis.call('HSET', results, flow.n, value) end
  flow.size, flow.left = flow.size + #value, flow.left - 1
  for _, other in ipairs(flow.after) do
    if redis.call('HINCRBY', hash, 'need:' .. other, -1) == 0 then
      open(flow, redis.call('HGET', hash, 'node:' .. other), now)
      redis.call('HDEL', hash, 'node:' .. other, 'need:' .. other)
    end
  end
  open_rest(flow, 2, now)
  if flow.left == 0 then
    local last = filled(cmsgpack.unpack(redis.call('HGET', hash, 'last')), results)
    over(flow.at, flow.id, '{"state":"done","value":' .. last .. '}', flow.keep)
    flow.state = 'done'
  elseif flow.state == 'failed' and flow.failed == 0 then
    flow.state = 'running'
    redis.call('DEL', KEYS[flow.at + 5])
  end
  save(flow)
end
