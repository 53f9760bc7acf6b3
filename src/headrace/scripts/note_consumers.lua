#!lua flags=allow-oom
-- Notes which consumers are connected and which are missing, for whoever leads next.
-- KEYS 1 consumers (hash: name -> since when it is missing, ms; 0 it is connected)
-- ARGV 1 how many are connected 2… their names, then the names of who is missing from now on
-- Returns nothing
-- include: now
local consumers = unpack(KEYS)
local connected, now = tonumber(ARGV[1]), now_ms()
for i = 2, #ARGV do redis.call('HSET', consumers, ARGV[i], i <= connected + 1 and 0 or now) end
