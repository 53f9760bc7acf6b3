-- When the next token comes (us since 1970), and how long that is (us), for one caller that keeps the time;
-- '' and 0 for all others. `mine`: the instant that the caller was given before, '0' if none, '' if it cannot
-- keep the time.
local function alarm(mine, more)
  local due = more and now_us + 50000 or math.huge
  for _, one in ipairs(order) do
    if one.rate > 0 and one.tokens < 1 and one.free >= 1 then
      due = math.min(due, now_us + (1 - one.tokens) * 1e6 / one.rate)
    end
  end
  local kept = redis.call('HGET', buckets, '*alarm') or '0'
  if due == math.huge or mine == '' then
    if kept == mine then redis.call('HDEL', buckets, '*alarm') end  -- nobody comes: the next caller may have to
    return {'', 0}
  end
  due = string.format('%.0f', math.max(due, now_us + 5000))
  if kept ~= mine and now_us - kept < 50000 and kept - due < 5000 then return {'', 0} end
  redis.call('HSET', buckets, '*alarm', due)
  return {due, due - now_us}
end
