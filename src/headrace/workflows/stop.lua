#!lua flags=allow-oom
-- Cancels a workflow: nothing follows any more from what its members do.
-- KEYS 1 hash (hash) 2 ended (string) 3 results (hash) 4 rest (list) 5 unfinished (zset) 6 told (list)
--      7 begun (string): as start has it
-- ARGV 1 what whoever waits is told 2 its id 3 for how long it is kept, if it has not begun (ms)
--      4 and for how long that it does not begin (ms)
-- Returns the state that it had: running, failed, waiting; done, cancelled, unknown: nothing changed
-- include: sound
-- include: tell
-- include: workflows/lib/advance
local hash, ended, results, rest, unfinished, told, begun = unpack(KEYS)
sound('HLEN', 'STRLEN', 'HLEN', 'LLEN', 'ZCARD', 'LLEN')
if not ARGV[4] then error('nothing to tell') end
local state, keep, id = unpack(redis.call('HMGET', hash, 'state', 'keep', 'id'))
if state == 'running' or state == 'failed' then
  redis.call('HSET', hash, 'state', 'cancelled')
  over(1, id, ARGV[1], keep)
end
if state then return state end
local total = redis.call('GET', begun)
if not total or total == '' then return 'unknown' end
-- A job has handed it on: whoever would start it finds that it has begun.
redis.call('SET', begun, '', 'PX', ARGV[4])
redis.call('HSET', hash, 'id', ARGV[2], 'state', 'cancelled', 'keep', ARGV[3], 'total', total, 'left', total,
  'running', 0, 'failed', 0)
over(1, ARGV[2], ARGV[1], ARGV[3])
return 'waiting'
