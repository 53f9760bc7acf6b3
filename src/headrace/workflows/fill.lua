#!lua
-- Brings members of a workflow that is about to start; they are no jobs yet.
-- KEYS 1 rest (list) 2 hash (hash): it is there if it has begun 3 begun (string): as start has it
-- ARGV 1 how many are there already 2 ttl (ms), until it has started 3… the members' records
-- Returns how many are there; repeated, it changes nothing; -1: it has begun, and nothing changed
-- include: sound
local rest, hash, begun = unpack(KEYS)
local before, ttl = whole(ARGV[1]), whole(ARGV[2], 1)
if #ARGV > 1002 then error('too many members') end
if redis.call('EXISTS', hash) == 1 or redis.call('GET', begun) == '' then return -1 end
if redis.call('LLEN', rest) == before and #ARGV > 2 then
  redis.call('RPUSH', rest, unpack(ARGV, 3))
  redis.call('PEXPIRE', rest, ttl)
end
return redis.call('LLEN', rest)
