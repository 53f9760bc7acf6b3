#!lua flags=allow-oom
-- Cancels a job: a waiting one is taken out, a running one is asked to stop, and its consumer told so.
-- KEYS 1 pending (list) 2 processing (list) 3 priority (zset) 4 delayed (zset) 5 claims (hash)
--      6 stats (hash) 7 cancelled (zset) 8 result (list) 9 unique (string), if the job has a key
-- ARGV 1 id 2 the job's bytes, as far as the caller knows 3 ttl of the request (ms)
--      4 result_ttl (ms; 0 none) 5 result 6 what the names of consumers' channels begin with
-- Returns 'cancelled', 'requested', or 'absent': not found under these bytes
-- include: sound
-- include: now
-- include: held
-- include: release
-- include: tell
local pending, processing, priority, delayed, claims, stats, cancelled, result = unpack(KEYS)
local id, job, ttl, result_ttl = ARGV[1], ARGV[2], whole(ARGV[3], 1), whole(ARGV[4])
sound('LLEN', 'LLEN', 'ZCARD', 'ZCARD', 'HLEN', 'HLEN', 'ZCARD', 'LLEN')
if not (ARGV[5] and ARGV[6]) then error('no result, or no channel') end
-- Remembered in both cases: it is the job's state for a while, and nobody adopts the id meanwhile.
local function remember()
  redis.call('ZREMRANGEBYSCORE', cancelled, '-inf', now_ms() - ttl)
  redis.call('ZADD', cancelled, now_ms(), id)
  redis.call('PEXPIRE', cancelled, ttl)
end
local owner = held(redis.call('HGET', claims, id))
if owner or redis.call('LPOS', processing, job) then
  remember()
  -- A hint, which may be lost or forbidden: without it the consumer learns of it from its next extend.
  local consumer = string.match(owner or '', '^(.+):%d+$')
  if consumer then redis.pcall('PUBLISH', ARGV[6] .. consumer, pending .. ' ' .. id) end
  return 'requested'
end
local taken = redis.call('ZREM', delayed, job) + redis.call('ZREM', priority, job)
if taken == 0 then taken = redis.call('LREM', pending, 1, job) end
if taken == 0 then return 'absent' end
remember()
redis.call('HINCRBY', stats, 'cancel', taken)
if result_ttl > 0 then tell(result, ARGV[5], result_ttl) end
if KEYS[9] then release(KEYS[9], {[id] = true}) end
return 'cancelled'
