#!lua flags=allow-oom
-- Notes how many slots a consumer has, and how many are busy. Repeated, it says the same.
-- KEYS 1 slots (hash)
-- ARGV 1 consumer 2 slots (0: it leaves) 3 busy 4 after what time somebody counts as gone (ms)
-- Returns 'ok'
-- include: sound
-- include: now
local slots, now = KEYS[1], now_ms()
local count, busy, absent = whole(ARGV[2]), whole(ARGV[3]), whole(ARGV[4], 1)
sound('HLEN')
if count == 0 then
  redis.call('HDEL', slots, ARGV[1])
  return 'ok'
end
-- Those that died have not said that they leave: whoever comes first in a while looks for them. Its
-- instant stands under '', which is no consumer's name.
if now - (tonumber(redis.call('HGET', slots, '') or nil) or 0) >= absent then
  local all = redis.call('HGETALL', slots)
  for i = 1, #all, 2 do
    local at = tonumber(string.match(all[i + 1], '(%d+)$')) or 0
    if now - at >= absent then redis.call('HDEL', slots, all[i]) end
  end
  redis.call('HSET', slots, '', string.format('%.0f', now))
end
local said = string.format('%.0f %.0f %.0f', count, busy, now)
redis.call('HSET', slots, ARGV[1], said)
redis.call('PEXPIRE', slots, absent)
return 'ok'
