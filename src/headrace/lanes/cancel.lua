#!lua flags=allow-oom
-- Cancels a job that waits in a lane.
-- KEYS 1 limited (hash) 2 lanes (zset) 3 stats (hash) 4 cancelled (zset) 5 result (list)
--      6 unique (string), if the job has a key
-- ARGV 1 id 2 ttl of the request (ms) 3 result_ttl (ms; 0 none) 4 result
-- Returns 'cancelled', or 'absent': it does not wait there
-- include: sound
-- include: now
-- include: release
-- include: tell
local limited, lanes, stats, cancelled, result = unpack(KEYS)
local id, ttl, result_ttl = ARGV[1], whole(ARGV[2], 1), whole(ARGV[3])
sound('HLEN', 'ZCARD', 'HLEN', 'ZCARD', 'LLEN')
if not ARGV[4] then error('no result') end
local lane, rank = string.match(redis.call('HGET', limited, id) or '', '^(%S+) (%d+) ')
if not lane then return 'absent' end
redis.call('ZREMRANGEBYSCORE', cancelled, '-inf', now_ms() - ttl)
redis.call('ZADD', cancelled, now_ms(), id)
redis.call('PEXPIRE', cancelled, ttl)
redis.call('HDEL', limited, id)
redis.call('ZREM', lanes, lane .. ' ' .. rank .. id)
redis.call('HINCRBY', stats, 'cancel', 1)
if result_ttl > 0 then tell(result, ARGV[4], result_ttl) end
if KEYS[6] then release(KEYS[6], {[id] = true}) end
return 'cancelled'
