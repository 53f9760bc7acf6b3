#!lua flags=allow-oom
-- Removes a schedule. Jobs that it has enqueued stay.
-- KEYS 1 schedules (hash) 2 due (zset) 3 state (hash)
-- ARGV 1 name
-- Returns whether it was there (0, 1)
-- include: sound
local schedules, due, state = unpack(KEYS)
local name = ARGV[1]
sound('HLEN', 'ZCARD', 'HLEN')
redis.call('HDEL', state, name)
return math.max(redis.call('ZREM', due, name), redis.call('HDEL', schedules, name))
