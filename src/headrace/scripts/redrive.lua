#!lua flags=allow-oom
-- Puts dead letters back to where jobs wait, each at the place its priority gives it.
-- KEYS 1 pending (list) 2 priority (zset) 3 dead (list) 4 nudge (list) 5 stats (hash)
--      6… result (list), one for each letter: how the job had ended is not how it will end
-- ARGV for each letter: its bytes; the bytes of the job that it becomes
-- Returns how many went back; a letter that is no longer there changes nothing
-- include: sound
-- include: head
-- include: place
local pending, priority, dead, nudge, stats = unpack(KEYS)
local moved = 0
sound('LLEN', 'ZCARD', 'LLEN', 'LLEN', 'HLEN')
if #ARGV ~= 2 * (#KEYS - 5) then error('a letter, its job and its key go together') end
for i = 1, #ARGV, 2 do
  if redis.call('LPOS', dead, ARGV[i]) then
    place(ARGV[i + 1], pending, priority, nudge, stats)
    redis.call('LREM', dead, 1, ARGV[i])
    redis.call('DEL', KEYS[5 + (i + 1) / 2])
    moved = moved + 1
  end
end
if moved > 0 then redis.call('HINCRBY', stats, 'redriven', moved) end
return moved
