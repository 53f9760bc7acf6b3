#!lua flags=allow-oom
-- Deletes dead letters for good, and counts them.
-- KEYS 1 dead (list) 2 stats (hash)
-- ARGV the letters' bytes
-- Returns how many were there
-- include: sound
local dead, stats = unpack(KEYS)
sound('LLEN', 'HLEN')
local purged = 0
for _, bytes in ipairs(ARGV) do purged = purged + redis.call('LREM', dead, 1, bytes) end
if purged > 0 then redis.call('HINCRBY', stats, 'purged', purged) end
return purged
