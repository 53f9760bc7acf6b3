#!lua flags=allow-oom
-- Reads the oldest dead letters that are not told of. Counted and read at once: between two commands
-- others die, and what is read by its place would be others than those that were counted.
-- KEYS 1 dead (list) 2 stats (hash)
-- ARGV 1 told (letters that were counted when they were told of last) 2 limit (letters, <= 1000)
-- 3 margin (how many older ones to read, <= 1000: letters that nobody counts push others down)
-- Returns {how many are told of with these, whether these are all (1 or 0), the letters, older ones}, the
-- oldest of the letters first; no more when they have 1 MiB, for meanwhile Redis does nothing else
-- include: sound
local dead, stats = unpack(KEYS)
local told, limit, margin = whole(ARGV[1]), whole(ARGV[2]), whole(ARGV[3])
sound('LLEN', 'HLEN')
local count = tonumber(redis.call('HGET', stats, 'dead') or nil) or 0
if count < told then told = 0 end  -- the queue was forgotten meanwhile, and began anew
local length = redis.call('LLEN', dead)
local here = math.min(count - told, length)  -- of others nothing is left
local most = math.min(here, limit, 1000)
local bytes, letters, older = 0, {}, {}
local function take(into, place)
  local letter = redis.call('LINDEX', dead, place)
  into[#into + 1] = letter
  bytes = bytes + #letter
end
while #letters < most and bytes < 1048576 do take(letters, here - #letters - 1) end
most = math.min(length - here, margin, 1000)
while #older < most and bytes < 1048576 do take(older, here + #older) end
return {count - here + #letters, #letters == here and 1 or 0, letters, older}
