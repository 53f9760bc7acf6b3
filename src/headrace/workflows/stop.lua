#!lua flags=allow-oom
-- Cancels a workflow: nothing follows any more from what its members do.
-- KEYS 1 hash (hash) 2 ended (string) 3 results (hash) 4 rest (list) 5 unfinished (zset) 6 told (list)
-- ARGV 1 what whoever waits is told
-- Returns the state that it had: running, failed; done, cancelled, unknown: nothing changed
-- include: sound
-- include: tell
-- include: workflows/lib/advance
local hash, ended, results, rest, unfinished, told = unpack(KEYS)
sound('HLEN', 'STRLEN', 'HLEN', 'LLEN', 'ZCARD', 'LLEN')
if not ARGV[1] then error('nothing to tell') end
local state, keep, id = unpack(redis.call('HMGET', hash, 'state', 'keep', 'id'))
if state == 'running' or state == 'failed' then
  redis.call('HSET', hash, 'state', 'cancelled')
  over(1, id, ARGV[1], keep)
end
return state or 'unknown'
