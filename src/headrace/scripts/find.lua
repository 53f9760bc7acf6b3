#!lua flags=allow-oom
-- Tells where a job is, as far as that needs no search.
-- KEYS 1 pending (list) 2 processing (list) 3 priority (zset) 4 delayed (zset) 5 claims (hash)
--      6 cancelled (zset) 7 result (list)
-- ARGV 1 id 2 the job's bytes, as far as the caller knows
-- Returns {'processing' 'delayed' 'pending' 'cancelled' 'ended' or 'unknown', its end or ''}
local pending, processing, priority, delayed, claims, cancelled, result = unpack(KEYS)
local id, job = ARGV[1], ARGV[2]
if redis.call('HEXISTS', claims, id) == 1 then return {'processing', ''} end
if redis.call('ZSCORE', delayed, job) then return {'delayed', ''} end
if redis.call('ZSCORE', priority, job) or redis.call('LPOS', pending, job) then return {'pending', ''} end
if redis.call('LPOS', processing, job) then return {'processing', ''} end
-- Last: a job that was redriven waits again, and may still have the end that it came to before.
local ended = redis.call('LINDEX', result, 0)
if ended then return {'ended', ended} end
return {redis.call('ZSCORE', cancelled, id) and 'cancelled' or 'unknown', ''}
