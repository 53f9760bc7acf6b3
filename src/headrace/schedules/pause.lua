#!lua flags=allow-oom
-- Pauses a schedule, so that it has no tick, or has it go on: ticks meanwhile are not missed, nobody wanted them.
-- KEYS 1 schedules (hash) 2 due (zset) 3 state (hash)
-- ARGV 1 name 2 '1' pause, '0' go on 3 SHA-1 of the definition from which the next tick was computed
--      4 that tick (ms); 3 and 4 are '' to pause
-- Returns 'ok'; 'same': it was so before; 'missing'; 'conflict': changed meanwhile
-- include: sound
local schedules, due, state = unpack(KEYS)
local name, pause, following = ARGV[1], ARGV[2] == '1', ARGV[4]
sound('HLEN', 'ZCARD', 'HLEN')
if not pause then whole(following) end
local definition = redis.call('HGET', schedules, name)
if not definition then return 'missing' end
local sane, seen = pcall(cjson.decode, redis.call('HGET', state, name) or '{}')
if not sane or type(seen) ~= 'table' then seen = {} end
if (seen.paused and true or false) == pause then return 'same' end
if not pause and redis.sha1hex(definition) ~= ARGV[3] then return 'conflict' end

if pause then
  seen.paused = true
  redis.call('ZREM', due, name)
else
  seen.paused = nil
  redis.call('ZADD', due, following, name)
end
redis.call('HSET', state, name, cjson.encode(seen))
return 'ok'
