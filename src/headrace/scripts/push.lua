#!lua
-- Accepts jobs for now that have no priority and no key: all of a call, or none. What most producers
-- ask for: enqueue could do it as well, at twice the time for its keys, arguments and functions.
-- KEYS 1 pending (list) 2 stats (hash)
-- ARGV 1… the jobs' bytes
-- Returns 1; 2: nothing had been counted here, so the queue is new, or was forgotten
local pending, stats = KEYS[1], KEYS[2]
if #ARGV > 1000 then error('too many jobs') end
redis.call('HLEN', stats)  -- a key of a wrong type has to fail before a job is written
redis.call('LPUSH', pending, unpack(ARGV))
return redis.call('HINCRBY', stats, 'enqueued', #ARGV) == #ARGV and 2 or 1
