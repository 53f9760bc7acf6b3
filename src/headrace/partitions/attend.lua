#!lua flags=allow-oom
-- Notes that a consumer is there, forgets those that have gone, and says which one of them it is.
-- KEYS 1 members (zset: consumer -> when it came, ms) 2 present (zset: consumer -> when it was here last, ms)
-- ARGV 1 the consumer 2 who has not been here for so long has gone (ms)
-- Returns {its rank, from 0, in the order in which they came; how many they are}
-- include: sound
-- include: now
local members, present = unpack(KEYS)
local name, away, now = ARGV[1], whole(ARGV[2], 1), now_ms()
redis.call('ZCARD', members) redis.call('ZCARD', present)
redis.call('ZADD', present, now, name)
redis.call('ZADD', members, 'NX', now, name)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', present, '-inf', now - away, 'LIMIT', 0, 100)) do
  redis.call('ZREM', present, gone)
  redis.call('ZREM', members, gone)
end
-- When nobody comes any more, nothing of them is left.
redis.call('PEXPIRE', members, 10 * away)
redis.call('PEXPIRE', present, 10 * away)
return {redis.call('ZRANK', members, name), redis.call('ZCARD', members)}
