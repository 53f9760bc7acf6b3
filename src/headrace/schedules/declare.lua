#!lua flags=allow-oom
-- Notes that a running application declares schedules, so that one which nobody declares is told from them.
-- KEYS 1 schedules (hash) 2 state (hash)
-- ARGV names, <= 1000
-- Returns those that are not there
-- include: sound
-- include: now
local schedules, state = unpack(KEYS)
local missing, now = {}, now_ms()
if #ARGV > 1000 then error('too many schedules') end
sound('HLEN', 'HLEN')
for _, name in ipairs(ARGV) do
  if redis.call('HEXISTS', schedules, name) == 0 then missing[#missing + 1] = name
  else
    local sane, seen = pcall(cjson.decode, redis.call('HGET', state, name) or '{}')
    if not sane or type(seen) ~= 'table' then seen = {} end
    seen.declared_at = now
    redis.call('HSET', state, name, cjson.encode(seen))
  end
end
return missing
