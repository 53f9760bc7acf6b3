#!lua flags=allow-oom
-- Reads the oldest dead letters that are not told of. Counted and read at once: between two commands
-- others die, and what is read by its place would be others than those that were counted.
-- KEYS 1 dead (list) 2 stats (hash)
-- ARGV 1 told (letters that were counted when they were told of last) 2 limit (letters, <= 1000)
-- Returns {how many are told of with these, whether these are all (1 or 0), the letters, the newest first}
-- include: sound
local dead, stats = unpack(KEYS)
local told, limit = whole(ARGV[1]), whole(ARGV[2])
sound('LLEN', 'HLEN')
local count = tonumber(redis.call('HGET', stats, 'dead') or nil) or 0
if count < told then told = 0 end  -- the queue was forgotten meanwhile, and began anew
local new = count - told
local some = math.min(new, limit, 1000)
local letters = some > 0 and redis.call('LRANGE', dead, new - some, new - 1) or {}
return {told + some, some == new and 1 or 0, letters}
